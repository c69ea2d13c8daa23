"""What a mask should be inside a region: outlines and bitmaps against plain loops, by hand, and against each other."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from detcore.structures import Polygons, Targets
from detcore_roi import mask_targets as module
from detcore_roi.mask_targets import inside_bitmaps, inside_outlines, mask_targets
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

Outline = list[tuple[float, float]]


def polygons(*objects: list[Outline]) -> Polygons:
    """The outlines of each object, in float64: loops and tensors then decide alike about points near an edge."""
    outlines = [(owner, each) for owner, its in enumerate(objects) for each in its]
    return Polygons(
        points=torch.tensor([point for _, each in outlines for point in each], dtype=torch.float64).view(-1, 2),
        offsets=torch.tensor([0, *(len(each) for _, each in outlines)]).cumsum(0),
        owner=torch.tensor([owner for owner, _ in outlines], dtype=torch.int64),
    )


def rectangle(left: float, top: float, right: float, bottom: float) -> Outline:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def blob(centre: tuple[float, float], radii: list[float]) -> Outline:
    """An outline around its centre, so many pixels from it in each of so many directions."""
    turns = [2 * math.pi * number / len(radii) for number in range(len(radii))]
    return [
        (centre[0] + radius * math.cos(turn), centre[1] + radius * math.sin(turn))
        for turn, radius in zip(turns, radii, strict=True)
    ]


def lies_within(x: float, y: float, outline: Outline) -> bool:
    """How often a line to the left crosses the outline."""
    inside = False
    for (x1, y1), (x2, y2) in pairwise([*outline, outline[0]]):
        if (y1 <= y) != (y2 <= y) and x1 + (y - y1) / (y2 - y1) * (x2 - x1) < x:
            inside = not inside
    return inside


def by_loops(box: list[float], outlines: list[Outline], side: int) -> list[list[bool]]:
    width, height = (box[2] - box[0]) / side, (box[3] - box[1]) / side
    centres = [[(box[0] + (i + 0.5) * width, box[1] + (j + 0.5) * height) for i in range(side)] for j in range(side)]
    return [[any(lies_within(*point, each) for each in outlines) for point in row] for row in centres]


def targets(*masks: Tensor | Polygons, objects: int) -> Targets:
    valid = torch.ones(len(masks), objects, dtype=torch.bool)
    return Targets(torch.zeros(len(masks), objects, 4), valid.long(), valid, ~valid, masks)


# ---------------------------------------------------------------------------------------------------------- outlines

near, far = st.floats(5, 60), st.floats(1, 80)
radii = st.lists(st.floats(2, 40), min_size=3, max_size=12)
blobs = st.builds(blob, st.tuples(near, near), radii)
boxes = st.tuples(near, near, far, far).map(lambda it: [it[0], it[1], it[0] + it[2], it[1] + it[3]])


@given(
    st.lists(st.lists(blobs, max_size=3), min_size=1, max_size=4), st.lists(boxes, min_size=1, max_size=4), st.data()
)
@settings(max_examples=60, deadline=None)
def test_outlines_are_filled_as_plain_loops_fill_them(
    objects: list[list[Outline]], regions: list[list[float]], data: st.DataObject
) -> None:
    """Several outlines of an object are one set of points, whatever their order and however they overlap."""
    index = data.draw(st.lists(st.integers(0, len(objects) - 1), min_size=len(regions), max_size=len(regions)))
    given_ = polygons(*objects)
    found = inside_outlines(
        torch.tensor(regions, dtype=torch.float64), torch.tensor(index), given_, len(objects), side=7
    )
    assert found.tolist() == [by_loops(box, objects[own], 7) for box, own in zip(regions, index, strict=True)]


def test_outlines_of_an_object_need_not_stand_together() -> None:
    parts = [rectangle(0, 0, 4, 8), rectangle(4, 0, 8, 4), rectangle(4, 4, 8, 8)]
    mixed = polygons([parts[0]], [parts[1]], [parts[2]])
    mixed.owner = torch.tensor([1, 0, 1])
    found = inside_outlines(torch.tensor([[0.0, 0, 8, 8]] * 2).double(), torch.tensor([0, 1]), mixed, 2, side=2)
    assert found.int().tolist() == [[[0, 1], [0, 0]], [[1, 0], [1, 1]]]


def test_a_hole_is_where_an_outline_goes_round_twice_and_overlapping_ones_leave_none() -> None:
    whole, inner = rectangle(0, 0, 8, 8), rectangle(2, 2, 6, 6)
    once = [*whole, whole[0], *inner, inner[0]]
    found = inside_outlines(
        torch.tensor([[0.0, 0, 8, 8]] * 2).double(), torch.tensor([0, 1]), polygons([once], [whole, inner]), 2, side=4
    )
    assert found[0].int().tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert found[1].all()


def test_what_has_no_outline_is_empty() -> None:
    some = polygons([], [rectangle(0, 0, 8, 8)])
    some.offsets, some.owner = F.pad(some.offsets, (0, 1), value=4), torch.tensor([1, 0])  # one without a point
    found = inside_outlines(torch.tensor([[0.0, 0, 8, 8]] * 2).double(), torch.tensor([0, 1]), some, 2, side=3)
    assert [int(each.sum()) for each in found] == [0, 9]
    nothing = polygons([], [])
    assert not inside_outlines(torch.rand(3, 4), torch.zeros(3, dtype=torch.int64), nothing, 2, side=3).any()
    assert inside_outlines(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), some, 2, side=3).shape == (0, 3, 3)


# ----------------------------------------------------------------------------------------------------------- bitmaps


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_a_cell_of_a_bitmap_is_set_where_half_of_its_pixels_are(factor: int) -> None:
    generator = torch.Generator().manual_seed(factor)
    masks = (torch.rand(3, 80, 90, generator=generator) < torch.tensor([0.3, 0.5, 0.7])[:, None, None]).byte()
    side, corner = 14, (3, 7)
    box = torch.tensor([[corner[0], corner[1], corner[0] + side * factor, corner[1] + side * factor]]).float()
    found = inside_bitmaps(box.expand(3, -1), torch.tensor([2, 0, 1]), masks, side)
    part = masks[[2, 0, 1], corner[1] : corner[1] + side * factor, corner[0] : corner[0] + side * factor]
    share = F.avg_pool2d(part.double(), factor)
    unclear = (share - 0.5).abs() < 1e-6  # rounding decides where it is just a half
    assert torch.equal(found | unclear, (share >= 0.5) | unclear)


def test_just_half_of_a_cell_is_enough() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[0, :, :2] = 1  # cells are 4 pixels wide
    assert inside_bitmaps(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0]), mask, 2).int().tolist() == [
        [[1, 0], [1, 0]]
    ]


# --------------------------------------------------------------------------------------------------------------- both


def ellipse(box: tuple[float, float, float, float], size: int) -> tuple[Tensor, Outline]:
    """The bitmap of pixels whose centre is inside, and 200 points of the outline."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    rx, ry = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    turns = [2 * math.pi * number / 200 for number in range(200)]
    outline = [(x + rx * math.cos(turn), y + ry * math.sin(turn)) for turn in turns]
    return (((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1).byte(), outline


@pytest.mark.parametrize(("least", "most", "share"), [(150, 300, 0.008), (28, 60, 0.03)])
def test_outlines_and_bitmaps_give_the_same_but_for_cells_on_the_edge(least: float, most: float, share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(12, 2, generator=generator) * 60 + 10
    boxes = torch.cat([corner, corner + least + torch.rand(12, 2, generator=generator) * (most - least)], 1)
    bitmaps, outlines = zip(*(ellipse(tuple(box), 400) for box in boxes.tolist()), strict=True)  # type: ignore[arg-type]
    moved = boxes + (torch.rand(12, 4, generator=generator) - 0.5) * 0.3 * least
    rois = F.pad(moved, (1, 0)).repeat(2, 1)
    rois[12:, 0] = 1
    index = torch.arange(12).repeat(2)
    outlined = polygons(*([each] for each in outlines))
    outlined.points = outlined.points.float()
    found = mask_targets(rois, index, targets(outlined, torch.stack(bitmaps), objects=12), 28)  # an image of each kind
    assert found.dtype == torch.float32
    assert 0.5 < float(found.mean()) < 0.9
    assert float((found[:12] - found[12:]).abs().mean()) < share


def test_regions_are_compared_with_their_own_images_object() -> None:
    left, right = polygons([rectangle(0, 0, 4, 8)], []), polygons([rectangle(4, 0, 8, 8)])
    bitmap = torch.zeros(1, 8, 8, dtype=torch.uint8)
    bitmap[0, :4] = 1
    truth = targets(left, bitmap, right, objects=2)
    rois = torch.tensor([[2.0, 0, 0, 8, 8], [1, 0, 0, 8, 8], [0, 0, 0, 8, 8], [0, 0, 0, 8, 8]])
    found = mask_targets(rois, torch.tensor([0, 0, 0, 1]), truth, 2)
    assert found.tolist() == [[[0, 1], [0, 1]], [[1, 1], [0, 0]], [[1, 0], [1, 0]], [[0, 0], [0, 0]]]


def test_a_bound_on_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    box, kept = (10.0, 10.0, 50.0, 40.0), torch.tensor([[0.0, 8, 9, 55, 44]] * 5)
    bitmap, outline = ellipse(box, 64)
    for truth in (targets(bitmap.repeat(5, 1, 1), objects=5), targets(polygons(*[[outline]] * 5), objects=5)):
        whole = mask_targets(kept, torch.arange(5), truth, 28)
        with monkeypatch.context() as patch:
            patch.setattr(module, "ELEMENTS", 1)
            assert torch.equal(mask_targets(kept, torch.arange(5), truth, 28), whole)


def test_no_regions_and_no_objects() -> None:
    nobody = torch.zeros(0, dtype=torch.int64)
    for masks in (polygons([]), torch.zeros(0, 8, 8, dtype=torch.uint8)):
        assert mask_targets(torch.zeros(0, 5), nobody, targets(masks, objects=1), 4).shape == (0, 4, 4)
