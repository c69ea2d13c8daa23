"""Evaluation: what the evaluator is given, and what is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from core.runner.tiny import TinyDataset, TinyDetector
from detcore.data import Loader
from detcore.errors import TrainingError
from detcore.interfaces import Evaluator
from detcore.preprocess import Preprocess
from detcore.runner.evaluate import evaluate
from detcore.structures import Batch, Detections
from torchvision.transforms.v2 import Resize


class Keep(Evaluator):
    def __init__(self) -> None:
        self.found: dict[int | str, Detections] = {}

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        self.found |= dict(zip(ids, detections, strict=True))

    def compute(self) -> dict[str, float]:
        return {"images": len(self.found)}


def score(detector: Any, workers: int = 0) -> tuple[dict[str, float], Keep]:
    keep = Keep()
    loader = Loader(TinyDataset(5), [Resize((8, 40))], batch_size=2, workers=workers)
    return evaluate(detector=detector, preprocess=Preprocess(), loader=loader, evaluator=keep), keep


def test_each_image_is_scored_once_in_original_pixels() -> None:
    metrics, keep = score(TinyDetector())
    assert metrics == {"images": 5}
    assert sorted(keep.found) == [100, 101, 102, 103, 104]
    assert keep.found[100].boxes.tolist() == [[0, 0, 4, 8]]  # width 20 of 40, height 16 of 8


def test_modes_are_restored_module_by_module_and_no_gradient_is_made() -> None:
    modes: list[tuple[bool, bool, bool]] = []

    class Watches(TinyDetector):
        def detections(self, batch: Batch) -> list[Detections]:
            modes.append((self.training, self.norm.training, torch.is_grad_enabled()))
            return super().detections(batch)

    detector = Watches().train()
    detector.norm.eval()
    score(detector)
    assert set(modes) == {(False, False, False)}
    assert detector.training
    assert detector.conv.training
    assert not detector.norm.training
    assert torch.is_grad_enabled()


def test_modes_are_restored_after_an_error() -> None:
    class Fails(TinyDetector):
        def detections(self, batch: Batch) -> list[Detections]:
            raise ZeroDivisionError

    detector = Fails().train()
    with pytest.raises(ZeroDivisionError):
        score(detector)
    assert detector.norm.training


def test_scores_do_not_depend_on_workers() -> None:
    detector = TinyDetector()
    one, two = score(detector)[1], score(detector, workers=2)[1]
    assert all(torch.equal(one.found[id].scores, two.found[id].scores) for id in one.found)


def test_memory_that_runs_out_is_a_users_error() -> None:
    class Full(TinyDetector):
        def detections(self, batch: Batch) -> list[Detections]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match=r"^evaluation: the memory of cpu ran out\. Use smaller batches"):
        score(Full())
