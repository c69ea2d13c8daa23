"""Batches in other sizes: which, when, and that all in them moves along."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.structures import Batch, Detections, Polygons, Targets
from detcore_transforms.batches import BatchSyncRandomResize, resized
from torch import Tensor, nn


def batch(masks: Sequence[Tensor | Polygons] | None = None) -> Batch:
    """An image of 32 x 48 in a canvas of 32 x 64, half of its original's size."""
    boxes = torch.tensor([[[4.0, 8, 24, 16]]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    targets = Targets(boxes, torch.zeros(1, 1, dtype=torch.int64), valid, ~valid, masks)
    proposals = [Detections(boxes[0], torch.ones(1), torch.zeros(1, dtype=torch.int64))]
    sizes, padded = torch.tensor([[32.0, 48]]), torch.tensor([[32.0, 64]])
    images = torch.arange(64.0).expand(1, 3, 32, 64)
    return Batch(images, sizes, padded, torch.tensor([[2.0, 2]]), [7], targets, proposals=proposals)


def test_all_in_a_batch_moves_along() -> None:
    found = resized(batch(), (64, 96))  # twice as high, one and a half times as wide
    assert found.images.shape == (1, 3, 64, 96)
    assert found.images[0, 0, 0, :3].tolist() == pytest.approx([0, 0.5, 7 / 6])  # at 1/3 - 1/2, 1 - 1/2, 5/3 - 1/2
    assert (found.sizes.tolist(), found.padded.tolist()) == ([[64, 72]], [[64, 96]])
    assert found.scale.tolist()[0] == pytest.approx([2 / 1.5, 1])
    assert found.truth.boxes.tolist() == [[[6, 16, 36, 32]]]
    assert found.proposals is not None
    assert found.proposals[0].boxes.tolist() == [[6, 16, 36, 32]]
    assert (found.ids, found.truth.valid.tolist()) == ([7], [[True]])


def test_outlines_and_bitmaps_too() -> None:
    outline = Polygons(torch.tensor([[4.0, 8], [24, 8], [24, 16]]), torch.tensor([0, 3]), torch.tensor([0]))
    (mask,) = resized(batch([outline]), (64, 96)).truth.masks or ()
    assert isinstance(mask, Polygons)
    assert mask.points.tolist() == [[6, 16], [36, 16], [36, 32]]
    bitmap = torch.zeros(1, 32, 48, dtype=torch.uint8)
    bitmap[:, 8:16, 4:24] = 1
    (mask,) = resized(batch([bitmap]), (64, 96)).truth.masks or ()
    assert isinstance(mask, Tensor)
    assert (mask.dtype, mask.shape) == (torch.uint8, (1, 64, 72))
    assert mask[0].nonzero().amin(0).tolist() == [16, 6]
    assert int(mask.sum()) == 16 * 30
    (mask,) = resized(batch([bitmap[:0]]), (64, 96)).truth.masks or ()
    assert len(mask) == 0 if isinstance(mask, Tensor) else False


def test_sizes_are_of_the_range_and_stay_for_some_steps() -> None:
    callback = BatchSyncRandomResize(random_size_range=(50, 130), interval=3)
    sizes = [callback.size(0, step, (100, 200)) for step in range(300)]
    assert sizes[:3] == [(100, 200)] * 3
    assert {*sizes[3:]} == {(64, 128), (96, 192), (128, 256)}
    assert all(len({*sizes[first : first + 3]}) == 1 for first in range(0, 300, 3))
    assert sizes[3:] == [callback.size(0, step, (100, 200)) for step in range(3, 300)]  # of step and seed alone
    assert sizes != [callback.size(1, step, (100, 200)) for step in range(300)]
    counts = [sizes.count(each) for each in {*sizes[3:]}]
    assert min(counts) > 60


class Noting(nn.Module):
    """A detector that remembers how large its images were."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, batch: Batch, mode: str = "losses") -> str:
        self.seen.append(tuple(batch.images.shape[-2:]))
        return mode


def test_a_detector_sees_them_in_training_only() -> None:
    run: Any = SimpleNamespace(detector=Noting().train(), seed=0, step=0)
    BatchSyncRandomResize(random_size_range=(96, 96), interval=1).run_started(run)
    assert run.detector(batch(), mode="losses") == "losses"
    run.step = 1
    run.detector(batch(), mode="losses")
    average = copy.deepcopy(run.detector).eval()
    assert average(batch(), mode="detections") == "detections"
    assert (run.detector.seen, average.seen[2:]) == ([(32, 64), (96, 192)], [(32, 64)])


def test_a_step_that_is_computed_again_has_the_size_that_it_had() -> None:
    callback = BatchSyncRandomResize(random_size_range=(64, 256), interval=1)
    run: Any = SimpleNamespace(detector=Noting().train(), seed=3, step=0)
    callback.run_started(run)
    for run.step in range(5):
        run.detector(batch())
        again = Noting().train()
        callback.step_replayed(again, run.seed, run.step)
        again(batch())
        assert again.seen == run.detector.seen[-1:]
    assert len({*run.detector.seen}) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random_size_range": (33, 63)}, "random_size_range: 33 to 63 has no multiple of 32. Give the least and the"),
        ({"random_size_range": (64, 96), "interval": 0}, "interval, size_divisor: 0 and 32. Each is at least 1."),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        BatchSyncRandomResize(**options)
    assert str(error.value).startswith(f"BatchSyncRandomResize: {message}")
