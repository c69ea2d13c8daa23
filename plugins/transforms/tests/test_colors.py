"""Colours: there and back, against Python's own colorsys, by hand; everything but the image stays."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from core.test_polygons import sample
from detcore.data import seeded
from detcore.errors import ConfigError
from detcore_transforms.colors import PhotoMetricDistortion, YOLOXHSVRandomAug, from_hsv, to_hsv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

BYTES = st.integers(0, 255)


def pixel(*rgb: float) -> tv_tensors.Image:
    return tv_tensors.Image(torch.tensor(rgb).view(3, 1, 1).to(torch.uint8))


@given(BYTES, BYTES, BYTES)
@settings(max_examples=200, deadline=None)
def test_hues_saturations_and_values_are_those_of_colorsys_and_lead_back(red: int, green: int, blue: int) -> None:
    parts = to_hsv(pixel(red, green, blue).as_subclass(Tensor).float())
    hue, saturation, value = (float(each) for each in parts)
    expected = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    assert hue / 6 % 1 == pytest.approx(expected[0], abs=1e-5)
    assert (saturation, value / 255) == pytest.approx(expected[1:], abs=1e-5)
    assert from_hsv(*parts).flatten().tolist() == pytest.approx([red, green, blue], abs=1e-3)


def changed(transform: Any, params: dict[str, Any], *rgb: float) -> list[int]:
    values: list[int] = transform.transform(pixel(*rgb), params).flatten().tolist()
    return values


@pytest.mark.parametrize(
    ("gains", "rgb", "expected"),
    [
        ([0, 0, -30], (200, 100, 50), [170, 85, 42]),  # hue and saturation stay: all times 170 / 200
        ([0, 0, 30], (240, 120, 0), [255, 128, 0]),  # value ends at 255
        ([0, -30, 0], (200, 100, 0), [200, 112, 24]),  # saturation 225 / 255
        ([0, 30, 0], (100, 100, 100), [100, 88, 88]),  # grey becomes red
        ([30, 0, 0], (200, 0, 0), [200, 200, 0]),  # a sixth of a turn
        ([-30, 0, 0], (200, 0, 0), [200, 0, 200]),
    ],
)
def test_eight_bit_hsv_by_hand(gains: list[int], rgb: Any, expected: list[int]) -> None:
    assert changed(YOLOXHSVRandomAug(), {"gains": gains}, *rgb) == expected


NEUTRAL = {
    "contrast_first": True, "brightness": 0.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "order": [0, 1, 2],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "rgb", "expected"),
    [
        ({}, (200, 100, 50), [200, 100, 50]),
        ({"brightness": 32.0}, (240, 100, 0), [255, 132, 32]),
        ({"brightness": -32.0}, (240, 100, 0), [208, 68, 0]),
        ({"contrast": 0.5}, (200, 100, 50), [100, 50, 25]),
        ({"saturation": 0.5}, (200, 100, 0), [200, 150, 100]),
        ({"saturation": 1.5}, (200, 150, 100), [200, 125, 50]),
        ({"hue": 60.0}, (200, 0, 0), [200, 200, 0]),
        ({"order": [2, 0, 1]}, (1, 2, 3), [3, 1, 2]),
        ({"brightness": 100.0, "contrast": 0.5}, (200, 100, 50), [150, 100, 75]),
        ({"brightness": 20.0, "contrast": 0.5, "contrast_first": False}, (200, 100, 0), [110, 60, 10]),
    ],
)
def test_distortions_by_hand(change: dict[str, Any], rgb: Any, expected: list[int]) -> None:
    assert changed(PhotoMetricDistortion(), {**NEUTRAL, **change}, *rgb) == expected


def test_parameters_are_within_their_ranges_and_each_is_neutral_half_of_the_time() -> None:
    torch.manual_seed(0)
    drawn = [PhotoMetricDistortion().make_params([]) for _ in range(400)]
    for name, low, high in (
        ("brightness", -32, 32),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -18, 18),
    ):
        values = [each[name] for each in drawn]
        assert low <= min(values) < max(values) <= high
        assert 150 < values.count(NEUTRAL[name]) < 250
        assert max(values) - min(values) > 0.9 * (high - low)
    gains = torch.tensor([YOLOXHSVRandomAug().make_params([])["gains"] for _ in range(400)])
    assert gains.abs().amax(0).tolist() == [4, 29, 29]
    assert ((gains == 0).sum(0) > 150).all()


@pytest.mark.parametrize(
    "transform", [YOLOXHSVRandomAug(), PhotoMetricDistortion()], ids=lambda each: type(each).__name__
)
def test_colours_change_nothing_but_the_image_and_are_functions_of_the_seed(transform: Any) -> None:
    image, target = sample(0)
    image = tv_tensors.Image(torch.randint(0, 256, image.shape, dtype=torch.uint8))
    results = []
    for _ in range(2):
        with seeded(3):
            results.append(transform(image, target))
    assert torch.equal(results[0][0], results[1][0])
    assert not torch.equal(results[0][0], image)
    assert type(results[0][0]) is tv_tensors.Image
    assert results[0][0].dtype == torch.uint8
    for name in ("boxes", "masks", "polygons", "labels"):
        assert torch.equal(results[0][1][name], target[name])


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: YOLOXHSVRandomAug(hue_delta=-1), "YOLOXHSVRandomAug: hue_delta: -1. It is at least 0."),
        (
            lambda: PhotoMetricDistortion(contrast_range=(2, 1)),
            "PhotoMetricDistortion: contrast_range: [2, 1]. It is a lower and an upper bound, both above 0.",
        ),
    ],
)
def test_values_that_cannot_be(make: Callable[[], Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == line
