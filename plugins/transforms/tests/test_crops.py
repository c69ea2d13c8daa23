"""Crops and sizes: outlines, masks and boxes together; sizes and places by hand; what is promised holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from core.test_polygons import SIZE, disagreement, extents, outlines_of, sample
from detcore.data import Sanitize, seeded
from detcore.errors import ConfigError
from detcore.polygons import PolygonPoints
from detcore.structures import clip_boxes
from detcore_transforms.crops import (
    CenterPad,
    Crop,
    MinIoURandomCrop,
    RandomCenterCropPad,
    RandomSizeCrop,
    allowed,
    cut,
    narrowed,
)
from detcore_transforms.sizes import FilterBoxes, LargeScaleJitter, RandomChoiceResize, scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

EXACT: dict[str, Any] = {
    "min IoU": MinIoURandomCrop(),
    "absolute": RandomSizeCrop(size=(60, 70)),
    "absolute range": RandomSizeCrop(size=(40, 200), kind="absolute_range"),
    "relative": RandomSizeCrop(size=(0.5, 0.75), kind="relative"),
    "relative range": RandomSizeCrop(size=(0.4, 0.4), kind="relative_range", allow_empty=True),
    "centre crop": RandomCenterCropPad(size=(80, 101), border=32),
    "centre pad": CenterPad(bits=63),
}
NEAR: dict[str, Any] = {
    "one of several": RandomChoiceResize(sizes=[(47, 400), (120, 150), (90, 90)]),
    "height and width": RandomChoiceResize(sizes=[(120, 100)], keep_ratio=False),
    "large scale jitter": LargeScaleJitter(size=(100, 128), ratio=(0.5, 2.0)),
}


def same_sample(one: Any, other: Any) -> bool:
    return torch.equal(one[0], other[0]) and all(
        torch.equal(one[1][name], other[1][name]) for name in ("boxes", "masks", "polygons")
    )


@given(st.integers(0, 2**31))
@settings(max_examples=6, deadline=None)
@pytest.mark.parametrize("name", EXACT | NEAR)
def test_outlines_masks_and_boxes_stay_together(name: str, seed: int) -> None:
    """What is not resized is exact, but for pixels that an outline cuts in half."""
    transform = (EXACT | NEAR)[name]
    with seeded(seed):
        image, target = transform(*sample(seed))
    size = tuple(image.shape[-2:])
    assert isinstance(target["polygons"], PolygonPoints)
    assert target["polygons"].canvas_size == target["boxes"].canvas_size == tuple(target["masks"].shape[-2:]) == size
    reach, most = (0, 2) if name in EXACT else (3, 12)
    assert max(disagreement(target, row, reach) for row in range(3)) <= most
    for row, box in enumerate(target["boxes"].as_subclass(Tensor)):
        if box.any():  # an object that does not count has zeros
            around = clip_boxes(extents(torch.cat(outlines_of(target, row))), torch.tensor(size))
            torch.testing.assert_close(box, around, atol=1e-3, rtol=0)
    boxes = Sanitize()(image, target)[1]["boxes"].as_subclass(Tensor)
    assert torch.equal(boxes, clip_boxes(boxes, torch.tensor(size)))
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    with seeded(seed):
        assert same_sample((image, target), transform(*sample(seed)))


def boxed(size: tuple[int, int], *boxes: list[float]) -> Any:
    rows = torch.tensor(boxes).reshape(-1, 4).float()
    return tv_tensors.Image(torch.randint(0, 256, (3, *size), dtype=torch.uint8)), {
        "boxes": tv_tensors.BoundingBoxes(rows, format="XYXY", canvas_size=size),
        "labels": torch.arange(len(rows)),
    }


# ------------------------------------------------------------------------------------------------------------ crops


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_part_is_the_image_or_large_enough_and_has_the_centre_of_an_object(seed: int) -> None:
    boxes = torch.tensor([[0.0, 0, 30, 30], [60, 50, 95, 75]])
    with seeded(seed):
        chosen = MinIoURandomCrop().choose((80, 100), boxes)
    if chosen is not None:
        (top, left, height, width), counts = chosen
        assert 0.5 <= height / width <= 2
        assert 0 <= top <= top + height <= 80
        assert 0 <= left <= left + width <= 100
        assert height >= 24
        assert width >= 30
        inside = [left < x < left + width and top < y < top + height for x, y in ((15, 15), (77.5, 62.5))]
        assert counts.tolist() == inside
        assert any(inside)


def test_all_objects_overlap_a_part_enough_not_one() -> None:
    """A part of 100 x 100: its IoU with the first is 1, with the second 0.25."""
    boxes, window = torch.tensor([[0.0, 0, 100, 100], [0, 0, 50, 50]]), (0, 0, 100, 100)
    assert allowed(window, boxes, 0.25)
    assert not allowed(window, boxes, 0.26)
    assert allowed(window, boxes[:1], 0.9)
    assert not allowed((50, 50, 50, 50), boxes[1:], 0.0)  # no centre
    assert not allowed((0, 0, 100, 49), boxes, 0.0)  # too narrow
    assert allowed((0, 0, 100, 50), torch.zeros(0, 4), 0.9)


def test_the_whole_image_is_one_of_the_choices() -> None:
    whole = 0
    for seed in range(70):
        with seeded(seed):
            whole += MinIoURandomCrop(min_ious=[0.0] * 5).choose((80, 100), torch.zeros(0, 4)) is None
    assert 2 < whole < 25  # one of seven


def test_boxes_whose_centre_is_outside_become_zeros_which_sanitize_drops() -> None:
    class Fixed(MinIoURandomCrop):
        def choose(self, size: Any, boxes: Tensor) -> Any:
            return (0, 0, 20, 20), torch.tensor([True, False])

    image, target = Fixed()(*boxed((40, 40), [0, 0, 10, 10], [15, 15, 40, 40]))
    assert target["boxes"].tolist() == [[0, 0, 10, 10], [0, 0, 0, 0]]
    kept = Sanitize()(image, target)[1]
    assert kept["labels"].tolist() == [0]
    assert kept["dropped"] == 1


@given(st.integers(0, 2**31))
@settings(max_examples=6, deadline=None)
@pytest.mark.parametrize("name", EXACT)
def test_proposals_are_cut_as_boxes_whatever_objects_count(name: str, seed: int) -> None:
    """There are more of them than objects; those that are the objects' own boxes stay so where these count."""
    image, target = boxed((90, 120), [10, 10, 50, 50], [60, 30, 119, 89])
    proposals = torch.cat(
        [target["boxes"].as_subclass(Tensor), torch.tensor([[0.0, 0, 120, 90], [100, 5, 118, 25]] * 3)]
    )
    boxes = tv_tensors.BoundingBoxes(proposals, format="XYXY", canvas_size=(90, 120))
    with seeded(seed):
        cut_image, found = EXACT[name](image, {**target, "proposals": boxes, "proposal_scores": torch.ones(6)})
    with seeded(seed):
        alone = EXACT[name](image, target)[1]
    assert torch.equal(found["boxes"], alone["boxes"])
    assert found["proposals"].canvas_size == tuple(cut_image.shape[-2:])
    kept = found["boxes"].as_subclass(Tensor)
    assert torch.equal(found["proposals"].as_subclass(Tensor)[:2][kept.any(1)], kept[kept.any(1)])
    sizes = found["proposals"].as_subclass(Tensor)
    assert torch.equal(sizes, clip_boxes(sizes, torch.tensor(cut_image.shape[-2:])))
    assert sizes[2].any()  # of the whole image there is always a part


def test_a_proposal_counts_though_its_object_does_not() -> None:
    class Fixed(MinIoURandomCrop):
        def choose(self, size: Any, boxes: Tensor) -> Any:
            assert len(boxes) == 2
            return (0, 0, 20, 20), torch.tensor([True, False])

    image, target = boxed((40, 40), [0, 0, 10, 10], [15, 15, 40, 40])
    proposals = tv_tensors.BoundingBoxes(
        torch.tensor([[15.0, 15, 40, 40], [1, 2, 3, 4], [30, 30, 40, 40]]), format="XYXY", canvas_size=(40, 40)
    )
    found = Fixed()(image, {**target, "proposals": proposals})[1]
    assert found["boxes"].tolist() == [[0, 0, 10, 10], [0, 0, 0, 0]]
    assert found["proposals"].tolist() == [[15, 15, 20, 20], [1, 2, 3, 4], [20, 20, 20, 20]]


def test_the_sizes_of_parts() -> None:
    def sides(size: Any, kind: Any) -> set[tuple[int, ...]]:
        torch.manual_seed(0)
        return {tuple(RandomSizeCrop(size=size, kind=kind).sides((50, 80))) for _ in range(300)}

    assert sides((30, 100), "absolute") == {(30, 80)}
    assert sides((0.5, 0.25), "relative") == {(25, 20)}
    highs, wides = zip(*sides((40, 60), "absolute_range"), strict=True)
    assert {*highs} == {*range(40, 51)}
    assert {*wides} == {*range(40, 61)}
    highs, wides = zip(*sides((0.6, 0.9), "relative_range"), strict=True)
    assert {*highs} == {*range(30, 51)}
    assert {*wides} == {*range(72, 81)}


def test_a_part_without_objects_is_taken_only_where_that_is_allowed() -> None:
    size, box = (200, 200), [0.0, 0, 20, 20]
    kept = {False: 0, True: 0}
    for allow in kept:
        for seed in range(30):
            with seeded(seed):
                image, target = RandomSizeCrop(size=(60, 60), allow_empty=allow)(*boxed(size, box))
            kept[allow] += len(Sanitize(min_size=1e-6)(image, target)[1]["boxes"])
    assert kept[False] == 30 > kept[True]
    image, _ = RandomSizeCrop(size=(1, 1))(*boxed((300, 300), [299.9, 299.9, 300, 300]))
    assert image.shape[-2:] in ((300, 300), (1, 1))  # none of 50 parts holds it, as good as always


def test_parts_that_stand_out_are_filled() -> None:
    image = tv_tensors.Image(torch.full((3, 4, 4), 9, dtype=torch.uint8))
    part = cut(image, (-1, 2, 4, 4), (1, 2, 3))
    assert part[:, 0, 0].tolist() == [1, 2, 3]
    assert part[0].tolist() == [[1, 1, 1, 1]] + [[9, 9, 1, 1]] * 3
    assert torch.equal(cut(image, (0, 0, 4, 4), (1, 2, 3)), image)


@pytest.mark.parametrize(
    ("border", "side", "expected"),
    [(128, 1000, 128), (128, 257, 128), (128, 256, 64), (128, 200, 64), (128, 100, 32), (1, 1, 0)],
)
def test_borders_of_small_images(border: int, side: int, expected: int) -> None:
    assert narrowed(border, side) == expected
    assert 2 * expected < side


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_part_around_a_point_has_one_of_the_sizes_and_the_centre_of_an_object(seed: int) -> None:
    boxes = torch.tensor([[10.0, 10, 30, 30], [150, 80, 190, 120]])
    with seeded(seed):
        chosen = RandomCenterCropPad(size=(100, 51), ratios=(0.6, 1.3), border=32).choose((140, 200), boxes)
    assert chosen is not None
    (top, left, height, width), counts = chosen
    assert (height, width) in ((60, 30), (130, 66))
    y, x = top + height // 2, left + width // 2
    assert 32 <= y < 140 - 32
    assert 32 <= x < 200 - 32
    assert any(left < cx < left + width and top < cy < top + height for cx, cy in ((20, 20), (170, 100)))
    assert counts.all()


def test_an_image_without_a_centre_to_find_is_cut_anywhere() -> None:
    with seeded(0):
        image, _ = RandomCenterCropPad(size=(20, 20), ratios=(1,))(*boxed((40, 40)))
        assert image.shape[-2:] == (20, 20)
        outside = boxed((40, 40), [-30, -30, 1, 1])
        assert RandomCenterCropPad(size=(20, 20), ratios=(1,))(*outside)[0].shape[-2:] == (20, 20)


@pytest.mark.parametrize(("size", "padded"), [((480, 640), (511, 767)), ((127, 128), (127, 255))])
def test_sides_with_seven_bits_set_and_the_image_in_their_middle(
    size: tuple[int, int], padded: tuple[int, int]
) -> None:
    image, target = CenterPad()(*boxed(size, [0, 0, 10, 10]))
    assert tuple(image.shape[-2:]) == padded
    top, left = (more // 2 - own // 2 for more, own in zip(padded, size, strict=True))
    assert target["boxes"].tolist() == [[left, top, left + 10, top + 10]]
    if left:
        assert image[:, 0, 0].tolist() == [124, 116, 104]


def test_a_crop_chooses() -> None:
    with pytest.raises(NotImplementedError):
        Crop().choose((1, 1), torch.zeros(0, 4))


# ------------------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((480, 640), (800, 1333), [800, 1067]),
        ((640, 480), (1333, 800), [1067, 800]),
        ((427, 640), (800, 1333), [800, 1199]),
        ((300, 900), (800, 1333), [444, 1333]),
        ((100, 100), (64, 64), [64, 64]),
    ],
)
def test_the_largest_size_within_limits(size: Any, limits: Any, expected: Any) -> None:
    assert scaled(size, limits) == expected


def test_each_of_several_sizes_is_chosen() -> None:
    found = set()
    for seed in range(30):
        with seeded(seed):
            image, target = RandomChoiceResize(sizes=[(40, 60), (20, 60)])(*boxed((40, 60), [0, 0, 30, 20]))
        found.add((*image.shape[-2:], *target["boxes"].flatten().tolist()))
    assert found == {(40, 60, 0, 0, 30, 20), (20, 30, 0, 0, 15, 10)}


@pytest.mark.parametrize(("factor", "box"), [(0.5, [0, 0, 16, 16]), (1.0, [0, 0, 32, 32])])
def test_an_image_that_is_smaller_than_its_canvas_lies_at_the_top_left(factor: float, box: list[int]) -> None:
    sample = boxed((40, 80), [0, 0, 40, 40])
    image, target = LargeScaleJitter(size=(64, 64), ratio=(factor, factor), fill=7)(*sample)
    high, wide = int(32 * factor), int(64 * factor)
    assert image.shape[-2:] == (64, 64)
    assert target["boxes"].tolist() == [box]
    assert image[:, high:].unique().tolist() == [7]
    assert wide == 64 or image[:, :, wide:].unique().tolist() == [7]


def test_of_a_larger_image_any_part_is_taken() -> None:
    lefts = set()
    for seed in range(60):
        with seeded(seed):
            _, target = LargeScaleJitter(size=(32, 32), ratio=(1.25, 1.25))(*boxed((32, 32), [16, 16, 17, 17]))
        lefts.add(20 - target["boxes"][0, 0].item())
    assert lefts == {*range(9)}


def test_objects_are_dropped_by_size_and_counted() -> None:
    boxes = [0, 0, 4, 10], [0, 0, 10, 4], [0, 0, 10, 10], [30, 0, 50, 40], [0, 0, 40, 40]
    image, target = boxed((40, 40), *boxes)
    kept = FilterBoxes(min_width=5, min_height=3)(image, {**target, "dropped": 1})[1]
    assert kept["labels"].tolist() == [1, 2, 3, 4]
    assert kept["dropped"] == 2
    assert FilterBoxes(min_area=100, max_area=400)(image, target)[1]["labels"].tolist() == [2, 3]  # 10 x 40 are inside
    assert FilterBoxes()(image, target)[1] is target


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: MinIoURandomCrop(min_crop_size=2),
            "MinIoURandomCrop: min_crop_size: [2, 1.0]. It is a lower and an upper bound, both above 0.",
        ),
        (lambda: RandomSizeCrop(size=(0, 5)), "RandomSizeCrop: size: [0, 5]. They are above 0."),
        (
            lambda: RandomSizeCrop(size=(2, 0.5), kind="relative"),
            "RandomSizeCrop: size: [2, 0.5]. They are shares above 0, up to 1.",
        ),
        (
            lambda: RandomSizeCrop(size=(60, 40), kind="absolute_range"),
            "RandomSizeCrop: size: [60, 40]. It is a lower and an upper bound, both above 0.",
        ),
        (
            lambda: RandomCenterCropPad(ratios=[]),
            "RandomCenterCropPad: ratios: []. They are factors above 0, at least one.",
        ),
        (lambda: RandomCenterCropPad(border=0), "RandomCenterCropPad: border: 0. It is at least 1."),
        (lambda: CenterPad(bits=128), "CenterPad: bits: 128. It is one less than a power of 2, such as 127."),
        (lambda: RandomChoiceResize(sizes=[]), "RandomChoiceResize: sizes: there are none. Name at least one."),
        (
            lambda: RandomChoiceResize(sizes=[(1, 2), (0, 3)]),
            "RandomChoiceResize: sizes[1]: [0, 3]. It is a height and a width, each at least 1.",
        ),
        (
            lambda: LargeScaleJitter(ratio=(0, 1)),
            "LargeScaleJitter: ratio: [0, 1]. It is a lower and an upper bound, both above 0.",
        ),
        (
            lambda: FilterBoxes(min_area=5, max_area=4),
            "FilterBoxes: max_area: 4. It is at least min_area, 5.",
        ),
    ],
)
def test_values_that_cannot_be(make: Callable[[], Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == line


def test_no_area_is_too_large_by_default() -> None:
    assert FilterBoxes().areas == (0.0, math.inf)
    assert SIZE == (90, 120)
