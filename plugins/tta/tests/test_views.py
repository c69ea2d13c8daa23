"""Views and the way back: padding stays where it is, sizes are right, a flip of a flip is nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.structures import Batch, Detections
from detcore_tta.views import Flip, flip_found, flipped, joined, scaled, stretch, taken_back
from torch import Tensor

FLIPS: tuple[Flip, ...] = ("none", "horizontal", "vertical", "both")


def found(*boxes: list[float], masks: Tensor | None = None) -> Detections:
    rows = torch.tensor(boxes).view(-1, 4)
    return Detections(rows, torch.ones(len(rows)), torch.zeros(len(rows), dtype=torch.int64), masks)


def batch(**others: Any) -> Batch:
    """Noise, in the padding too: images of 5 x 6, 8 x 3 and 8 x 8 on a canvas of 8 x 8."""
    sizes = torch.tensor([[5.0, 6], [8, 3], [8, 8]])
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Batch(images, sizes, torch.tensor([[6.0, 6], [8, 4], [8, 8]]), torch.full((3, 2), 2.0), [1, 2, 3], **others)


@pytest.mark.parametrize("flip", FLIPS)
def test_a_flip_of_a_flip_is_nothing(flip: Flip) -> None:
    once = flipped(batch(), flip)
    assert torch.equal(flipped(once, flip).images, batch().images)
    assert torch.equal(once.images, batch().images) == (flip == "none")
    several = found([1.0, 0, 3, 5], [0.25, 1, 6, 4.5], masks=torch.rand(2, 3, 5))
    size = torch.tensor([5.0, 6])
    back = flip_found(flip_found(several, size, flip), size, flip)
    torch.testing.assert_close(back.boxes, several.boxes)
    assert torch.equal(back.masks, several.masks)  # type: ignore[arg-type]


@pytest.mark.parametrize(("flip", "dims"), [("horizontal", [2]), ("vertical", [1]), ("both", [1, 2])])
def test_an_image_is_mirrored_in_its_own_size_and_never_with_its_padding(flip: Flip, dims: list[int]) -> None:
    old, new = batch(), flipped(batch(), flip)
    for before, after, (height, width) in zip(old.images, new.images, old.sizes.int().tolist(), strict=True):
        assert torch.equal(after[:, :height, :width], before[:, :height, :width].flip(dims))
        outside = torch.ones(8, 8, dtype=torch.bool)
        outside[:height, :width] = False
        assert torch.equal(after[:, outside].sort().values, before[:, outside].sort().values)
    assert (torch.equal(new.sizes, old.sizes), torch.equal(new.padded, old.padded)) == (True, True)


def test_boxes_and_masks_are_mirrored_by_hand() -> None:
    mask = torch.arange(6.0).view(1, 2, 3)
    size = torch.tensor([10.0, 20])  # height, width
    wide = flip_found(found([1.0, 2, 4, 9], masks=mask), size, "horizontal")
    assert (wide.boxes.tolist(), wide.masks.tolist()) == ([[16, 2, 19, 9]], [[[2, 1, 0], [5, 4, 3]]])  # type: ignore[union-attr]
    high = flip_found(found([1.0, 2, 4, 9], masks=mask), size, "vertical")
    assert (high.boxes.tolist(), high.masks.tolist()) == ([[1, 1, 4, 8]], [[[3, 4, 5], [0, 1, 2]]])  # type: ignore[union-attr]
    assert flip_found(found([1.0, 2, 4, 9]), size, "both").boxes.tolist() == [[16, 1, 19, 8]]


def test_proposals_are_mirrored_and_scaled_with_their_images() -> None:
    given = [found([1.0, 2, 3, 4]), found([0.0, 0, 3, 8]), found([1.0, 1, 2, 2])]
    there = flipped(batch(proposals=given), "horizontal").proposals
    assert there is not None
    assert [each.boxes.tolist() for each in there] == [[[3, 2, 5, 4]], [[0, 0, 3, 8]], [[6, 1, 7, 2]]]
    there = scaled(batch(proposals=given), 2.0, 4, 0.0).proposals
    assert there is not None
    assert there[0].boxes.tolist() == [[2, 4, 6, 8]]
    both = joined([batch(proposals=given), batch(proposals=given)]).proposals
    assert both is not None
    assert len(both) == 6


def test_scaled_images_lie_at_the_top_left_of_a_canvas_of_their_own() -> None:
    old, new = batch(), scaled(batch(), 1.5, 4, (7.0, 8.0, 9.0))
    assert new.sizes.tolist() == [[8, 9], [12, 5], [12, 12]]  # 7.5 and 4.5 are rounded up
    assert new.padded.tolist() == [[8, 12], [12, 8], [12, 12]]
    assert new.images.shape == (3, 3, 12, 12)
    factors = torch.tensor([[9 / 6, 8 / 5], [5 / 3, 12 / 8], [1.5, 1.5]])  # of x and y
    torch.testing.assert_close(new.scale, old.scale / factors)
    torch.testing.assert_close(new.sizes * new.scale.flip(-1), old.sizes * old.scale.flip(-1))  # the original's
    for image, size in zip(new.images, new.sizes.int().tolist(), strict=True):
        outside = torch.ones(12, 12, dtype=torch.bool)
        outside[: size[0], : size[1]] = False
        assert (image[:, outside] == torch.tensor([[7.0], [8], [9]])).all()
    inside = torch.nn.functional.interpolate(old.images[:1, :, :5, :6], (8, 9), mode="bilinear")
    assert torch.equal(new.images[:1, :, :8, :9], inside)  # no padding is mixed in


def test_nothing_is_scaled_away() -> None:
    assert scaled(batch(), 0.01, 1, 0.0).sizes.tolist() == [[1, 1]] * 3


def test_a_box_comes_back_from_a_view() -> None:
    size, original = torch.tensor([10.0, 12]), torch.tensor([5.0, 6])
    box = found([1.0, 2, 4, 5])
    there = flip_found(stretch(box, size / original), size, "both")
    assert there.boxes.tolist() == [[4, 0, 10, 6]]
    assert taken_back(there, "both", size, original).boxes.tolist() == box.boxes.tolist()
    assert taken_back(box, "none", size, None) is box
    assert taken_back(found([0.0, 0, 12.5, 10.5]), "none", size, original).boxes.tolist() == [[0, 0, 6, 5]]  # cut


def test_views_of_one_size_are_one_batch() -> None:
    one = batch()
    both = joined([one, flipped(one, "horizontal")])
    assert (both.images.shape, both.sizes.shape, both.padded.shape, both.scale.shape) == (
        (6, 3, 8, 8),
        (6, 2),
        (6, 2),
        (6, 2),
    )
    assert (both.ids, both.proposals) == ([1, 2, 3, 1, 2, 3], None)
    assert joined([one]) is one
