"""RoIAlign on a pyramid: against a plain loop in float64, the level rule by hand, gradients where nothing is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore_roi.extractor import SingleLevelRoIExtractor, levels_of, scale_rois
from detcore_roi.generic import GenericRoIExtractor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

STRIDES = (4, 8, 16, 32)


@pytest.fixture(scope="module", autouse=True, params=[False, True], ids=["each from its own level", "all from all"])
def everywhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """The way of the CPU, and that of devices and graphs."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            whole = SingleLevelRoIExtractor._all_from_all
            patch.setattr(SingleLevelRoIExtractor, "_level_by_level", whole)
        yield


def extractor(**options: Any) -> SingleLevelRoIExtractor:
    return SingleLevelRoIExtractor(**{"in_channels": 2, "strides": STRIDES} | options)


def pyramid(side: int = 256, images: int = 2, strides: tuple[int, ...] = STRIDES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(images, 2, side // each, side // each, generator=generator).double() for each in strides]


# --------------------------------------------------------------------------------------------------- a plain reference


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """Cell centres at whole numbers; the edge's value until one cell outside, zero beyond."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, over = y - top, x - left
    upper = float(plane[top, left]) * (1 - over) + float(plane[top, right]) * over
    lower = float(plane[below, left]) * (1 - over) + float(plane[below, right]) * over
    return upper * (1 - down) + lower * down


def cut_out(
    plane: Tensor, box: list[float], stride: int, size: int, samples: int = 0, aligned: bool = True
) -> list[list[float]]:
    """RoIAlign of one plane and box, bin by bin and point by point."""
    left, top, right, bottom = (side / stride - 0.5 * aligned for side in box)
    least = 0.0 if aligned else 1.0
    height, width = max(bottom - top, least) / size, max(right - left, least) / size
    rows, columns = samples or math.ceil(height), samples or math.ceil(width)
    found = []
    for row in range(size):
        found.append([])
        for column in range(size):
            points = [
                bilinear(plane, top + (row + (y + 0.5) / rows) * height, left + (column + (x + 0.5) / columns) * width)
                for y in range(rows)
                for x in range(columns)
            ]
            found[-1].append(sum(points) / max(len(points), 1))
    return found


def level_of(box: list[float], levels: int) -> int:
    side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return min(max(math.floor(math.log2(side / 56 + 1e-6)), 0), levels - 1) if side else 0


corner = st.floats(-40, 250)
side = st.floats(0, 300)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), corner, corner, side, side), min_size=1, max_size=3),
    st.sampled_from([0, 2]),
    st.booleans(),
)
def test_equals_a_plain_loop(boxes: list[tuple[int, float, float, float, float]], samples: int, aligned: bool) -> None:
    rois = torch.tensor([[image, x, y, x + w, y + h] for image, x, y, w, h in boxes], dtype=torch.float64)
    maps = pyramid()
    found = extractor(roi_size=3, sampling_ratio=samples, aligned=aligned)(maps, rois)
    for row, (image, *_) in enumerate(boxes):
        box = rois[row, 1:].tolist()
        level = level_of(box, 4)
        wanted = [cut_out(maps[level][image, c], box, STRIDES[level], 3, samples, aligned) for c in range(2)]
        torch.testing.assert_close(found[row], torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------- the levels


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (0, 0, 0),
        (1, 1, 0),
        (111, 111, 0),
        (112, 112, 1),
        (56, 224, 1),
        (223, 223, 1),
        (224, 224, 2),
        (447, 447, 2),
        (448, 448, 3),
        (895, 895, 3),
        (896, 896, 4),
        (1700, 1700, 4),
        (-5, 5, 0),
    ],
)
def test_the_level_of_a_size(width: float, height: float, level: int) -> None:
    rois = torch.tensor([[0.0, 10.0, 10.0, 10.0 + width, 10.0 + height]])
    assert levels_of(rois, 5, 56.0).tolist() == [level]
    assert levels_of(rois, 4, 56.0).tolist() == [min(level, 3)]
    assert levels_of(rois, 5, 112.0).tolist() == [max(level - 1, 0)]


def test_scaling_a_region_leaves_it_on_its_level() -> None:
    """A region of 100 px, cut 1.3 times as large: still from level 0, though 130 px would be of level 1."""
    maps = [torch.full((1, 2, 256 // stride, 256 // stride), float(level)) for level, stride in enumerate(STRIDES)]
    rois = torch.tensor([[0.0, 70.0, 70.0, 170.0, 170.0]])
    larger = torch.tensor([[0.0, 55.0, 55.0, 185.0, 185.0]])
    assert float(extractor()(maps, rois, 1.3).max()) == 0
    assert float(extractor()(maps, larger).min()) == 1
    maps = pyramid(images=1)
    only = extractor(strides=STRIDES[:1])
    torch.testing.assert_close(only(maps[:1], rois.double(), 1.3), only(maps[:1], larger.double()))


# ------------------------------------------------------------------------------------------------ gradients, precision


def test_levels_and_images_without_regions_have_a_gradient_of_zeros() -> None:
    maps = [each.requires_grad_() for each in pyramid()]
    extractor()(maps, torch.tensor([[1.0, 0.0, 0.0, 150.0, 150.0]], dtype=torch.float64)).sum().backward()
    touched = [[bool(image.any()) for image in each.grad] for each in maps if each.grad is not None]
    assert touched == [[False, False], [False, True], [False, False], [False, False]]


def test_without_any_region_nothing_comes_out_and_the_gradient_is_zero() -> None:
    maps = [each.requires_grad_() for each in pyramid()]
    found = extractor()(maps, torch.zeros(0, 5, dtype=torch.float64))
    assert found.shape == (0, 2, 7, 7)
    found.sum().backward()
    assert all(each.grad is not None and not each.grad.any() for each in maps)


def test_gradients() -> None:
    maps = [each.requires_grad_() for each in pyramid(64, 1, (8, 16))]
    rois = torch.tensor([[0.0, 3.0, 5.0, 40.0, 31.0], [0.0, -9.0, 0.0, 130.0, 150.0]], dtype=torch.float64)
    cut = extractor(strides=(8, 16), roi_size=2)
    assert torch.autograd.gradcheck(lambda *levels: cut(levels, rois), maps)


def test_half_precision_maps_are_cut_in_the_precision_of_the_regions() -> None:
    maps = [each.bfloat16() for each in pyramid()]
    rois = torch.tensor([[0.0, 200.3, 200.3, 231.1, 240.7]])
    found = extractor()(maps, rois)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, extractor()([each.float() for each in maps], rois).bfloat16())


# ------------------------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": ()}, "strides: is empty. Regions are cut out of one level at least: see num_levels."),
        ({"roi_size": 0}, "roi_size, finest_scale: 0 and 56.0. Give positive numbers."),
        ({"finest_scale": 0.0}, "roi_size, finest_scale: 7 and 0.0. Give positive numbers."),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        extractor(**options)
    assert str(error.value) == message


def test_other_maps_than_strides_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^strides: 4 for 5 maps\. Give one per map\.$"):
        extractor()([*pyramid(), torch.zeros(2, 2, 4, 4)], torch.zeros(0, 5))


def test_scaling_is_about_the_centre() -> None:
    rois = torch.tensor([[3.0, 10.0, 20.0, 30.0, 60.0]])
    assert scale_rois(rois, 1.0) is rois
    assert scale_rois(rois, 2.0).tolist() == [[3.0, 0.0, 0.0, 40.0, 80.0]]
    assert scale_rois(rois, 0.5).tolist() == [[3.0, 15.0, 30.0, 25.0, 50.0]]


# ------------------------------------------------------------------------------------------------- out of every level


def generic(**options: Any) -> GenericRoIExtractor:
    return GenericRoIExtractor(**{"in_channels": (2, 2, 2, 2), "strides": STRIDES} | options)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), corner, corner, side, side), min_size=1, max_size=2),
    st.sampled_from(["sum", "concat"]),
)
def test_all_levels_equal_a_plain_loop(boxes: list[tuple[int, float, float, float, float]], aggregation: str) -> None:
    rois = torch.tensor([[image, x, y, x + w, y + h] for image, x, y, w, h in boxes], dtype=torch.float64)
    maps = pyramid()
    found = generic(roi_size=3, sampling_ratio=2, aggregation=aggregation)(maps, rois)
    for row, (image, *_) in enumerate(boxes):
        box = rois[row, 1:].tolist()
        cut = torch.tensor(
            [[cut_out(maps[level][image, c], box, STRIDES[level], 3, 2) for c in range(2)] for level in range(4)],
            dtype=torch.float64,
        )
        wanted = cut.sum(0) if aggregation == "sum" else cut.flatten(0, 1)
        torch.testing.assert_close(found[row], wanted, rtol=1e-6, atol=1e-6)


def test_all_levels_of_a_larger_region_about_its_centre() -> None:
    maps, roi = pyramid(), torch.tensor([[0.0, 60.0, 80.0, 100.0, 200.0]], dtype=torch.float64)
    larger = torch.tensor([[0.0, 50.0, 50.0, 110.0, 230.0]], dtype=torch.float64)
    torch.testing.assert_close(generic()(maps, roi, 1.5), generic()(maps, larger))


def test_no_region_is_cut_out_of_all_levels_with_a_gradient() -> None:
    maps = [each.requires_grad_() for each in pyramid()]
    found = generic(aggregation="concat")(maps, torch.zeros(0, 5, dtype=torch.float64))
    assert found.shape == (0, 8, 7, 7)
    found.sum().backward()
    assert all(each.grad is not None for each in maps)


def test_gradients_of_all_levels_are_those_of_finite_differences() -> None:
    maps = [each.requires_grad_() for each in pyramid(32, 1)]
    roi = torch.tensor([[0.0, 3.0, 4.0, 21.0, 30.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *given: generic(roi_size=2, sampling_ratio=1)(given, roi), maps)


def test_channels_side_by_side_may_differ() -> None:
    assert generic(in_channels=(2, 4, 6, 8), aggregation="concat").out_channels == 20
    assert generic().out_channels == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": (2, 4, 2, 2)}, 'aggregation: "sum" of maps with [2, 4, 2, 2] channels. Give "concat", or a'),
        ({"strides": ()}, "strides, roi_size: 0 levels, a side of 7. Regions are cut out of one level at least."),
        ({"roi_size": 0}, "strides, roi_size: 4 levels, a side of 0. Regions are cut out of one level at least."),
    ],
)
def test_all_levels_of_what_makes_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        generic(**options)
    assert message in str(error.value)


def test_all_levels_are_as_many_as_strides() -> None:
    with pytest.raises(ConfigError, match=r"strides: 4 for 2 maps\. Give one per map\."):
        generic()(pyramid()[:2], torch.zeros(1, 5))
