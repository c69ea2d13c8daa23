"""Evaluation: what the evaluator is given, and what is left behind."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from core.runner.tiny import TinyDataset, TinyDetector
from detcore.data import Loader
from detcore.errors import DataError, TrainingError
from detcore.interfaces import Evaluator
from detcore.preprocess import Preprocess
from detcore.runner.evaluate import Evaluation, evaluate
from detcore.structures import Batch, Detections
from torchvision.transforms.v2 import Resize


class Keep(Evaluator):
    def __init__(self) -> None:
        self.found: dict[int | str, Detections] = {}

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        self.found |= dict(zip(ids, detections, strict=True))

    def compute(self) -> dict[str, float]:
        return {"images": len(self.found)}


def score(detector: Any, workers: int = 0, **more: Any) -> tuple[Evaluation, Keep]:
    keep = Keep()
    loader = Loader(TinyDataset(5), [Resize((8, 40))], batch_size=2, workers=workers)
    return evaluate(detector=detector, preprocess=Preprocess(), loader=loader, evaluator=keep, **more), keep


def test_each_image_is_scored_once_in_original_pixels() -> None:
    evaluation, keep = score(TinyDetector())
    assert evaluation.metrics == {"images": 5}
    assert sorted(keep.found) == [100, 101, 102, 103, 104]
    assert keep.found[100].boxes.tolist() == [[0, 0, 4, 8]]  # width 20 of 40, height 16 of 8


def test_what_was_found_is_kept_as_rows_and_of_a_few_images() -> None:
    told: list[tuple[int, int]] = []
    evaluation, keep = score(TinyDetector(), samples=2, tick=lambda done, of: told.append((done, of)))
    assert [row["image_id"] for row in evaluation.results] == [100, 101, 102, 103, 104]
    assert {(row["category_id"], *row["bbox"]) for row in evaluation.results} == {(1, 0.0, 0.0, 4.0, 8.0)}
    assert [row["score"] for row in evaluation.results] == [float(keep.found[id_].scores) for id_ in range(100, 105)]
    assert {index: found is keep.found[100 + index] for index, found in evaluation.samples.items()} == {
        0: True,
        3: True,
    }
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_rows_that_the_evaluator_made_are_taken() -> None:
    class Rows(Keep):
        def results(self) -> list[dict[str, Any]]:
            return [{"image_id": id_} for id_ in self.found]

    loader = Loader(TinyDataset(3), batch_size=2)
    done = evaluate(detector=TinyDetector(), preprocess=Preprocess(), loader=loader, evaluator=Rows())
    assert done.results == [{"image_id": 100}, {"image_id": 101}, {"image_id": 102}]


def test_losses_are_means_over_images_without_gradient_or_change() -> None:
    detector = TinyDetector(dropout=0).eval()
    np.random.seed(0)
    random.seed(0)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    evaluation, _ = score(detector, losses=True)
    assert list(evaluation.metrics) == ["images", "val_loss", "val_loss_box", "val_loss_l1", "val_seen"]
    assert evaluation.metrics["val_loss"] == pytest.approx(
        evaluation.metrics["val_loss_box"] + evaluation.metrics["val_loss_l1"]
    )
    np.random.seed(0)
    random.seed(0)
    loader = Loader(TinyDataset(5), [Resize((8, 40))], batch_size=2)
    with torch.no_grad():
        batches = [(len(raw), float(detector.losses(Preprocess()(raw))["loss_l1"])) for raw in loader.epoch(0)]
    assert evaluation.metrics["val_loss_l1"] == pytest.approx(sum(count * value for count, value in batches) / 5)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_losses_need_objects() -> None:
    class Bare(TinyDataset):
        def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
            return super().__getitem__(index)[0], {"image_id": index}

    loader = Loader(Bare(2), batch_size=2)
    with pytest.raises(DataError, match=r"^val: has no objects to compute losses of\. Leave out loss = true\.$"):
        evaluate(detector=TinyDetector(), preprocess=Preprocess(), loader=loader, evaluator=Keep(), losses=True)


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
