"""YOLOX's affine map: pixels as torchvision resizes them, boxes by hand, outlines with masks."""

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
from detcore_transforms.affine import YOLOXRandomAffine
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

STILL = {"degrees": 0.0, "translate": 0.0, "shear": 0.0, "scale": (1.0, 1.0)}


def noise(*size: int) -> tv_tensors.Image:
    return tv_tensors.Image(torch.randint(0, 256, (3, *size), dtype=torch.uint8))


def test_the_identity_changes_no_pixel() -> None:
    image = noise(13, 17)
    assert torch.equal(YOLOXRandomAffine(**STILL)(image), image)


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_scaling_is_torchvisions_resizing_but_for_what_is_mixed_with_the_border(factor: float) -> None:
    image = noise(12, 16)
    border = tuple(int(side * (factor - 1)) // 2 for side in (12, 16))
    found = YOLOXRandomAffine(**{**STILL, "scale": (factor, factor)}, border=border)(image)
    expected = F.resize(image, [int(12 * factor), int(16 * factor)], antialias=False)
    assert found.shape == expected.shape
    inner = (..., slice(2, -2), slice(2, -2))
    assert (found[inner].int() - expected[inner].int()).abs().max() <= 1


def test_the_border_is_filled_and_a_negative_one_cuts() -> None:
    image = noise(6, 8)
    wider = YOLOXRandomAffine(**STILL, border=(1, 2), fill=7)(image)
    assert wider.shape == (3, 8, 12)
    assert torch.equal(wider[:, :6, :8], image)
    assert wider[:, 6:].unique().tolist() == wider[:, :, 8:].unique().tolist() == [7]
    assert torch.equal(YOLOXRandomAffine(**STILL, border=(-1, -2))(image), image[:, :4, :4])


def mapped(matrix: list[list[float]], boxes: list[list[float]], size: tuple[int, int] = (100, 100)) -> Any:
    found = tv_tensors.BoundingBoxes(torch.tensor(boxes).float(), format="XYXY", canvas_size=size)
    return YOLOXRandomAffine().transform(found, {"matrix": torch.tensor(matrix), "size": size})


def test_boxes_surround_their_corners_and_are_cut_at_the_canvas() -> None:
    turned = mapped([[0.0, -1, 50], [1, 0, 10], [0, 0, 1]], [[10, 20, 30, 25], [40, 60, 60, 90]])
    assert turned.tolist() == [[25, 20, 30, 40], [0, 50, 0, 70]]
    half = math.sqrt(0.5)
    around = mapped([[half, -half, 50], [half, half, 0], [0, 0, 1]], [[10, 10, 20, 20]])
    side = 10 * math.sqrt(2)
    torch.testing.assert_close(
        around.as_subclass(Tensor), torch.tensor([[50 - side / 2, side, 50 + side / 2, 2 * side]])
    )


def test_the_map_scales_turns_shears_then_moves_about_the_top_left() -> None:
    transform = YOLOXRandomAffine(degrees=30, translate=0.2, scale=(0.5, 2), shear=10, border=(10, -5))
    image = noise(40, 60)
    with seeded(0):
        params = transform.make_params([image])
    assert params["size"] == (60, 50)
    linear, moved = params["matrix"][:2, :2], params["matrix"][:2, 2]
    assert abs(moved[0]) <= 0.2 * 50
    assert abs(moved[1]) <= 0.2 * 60
    turn, stretch = torch.linalg.qr(linear)
    assert (turn @ stretch - linear).abs().max() < 1e-5
    with seeded(0):  # the same draws, in the same order, by hand
        angle, scale, along_x, along_y, x, y = (float(torch.rand(())) for _ in range(6))
    angle, scale = math.radians(60 * angle - 30), 0.5 + 1.5 * scale
    along_x, along_y = (math.tan(math.radians(20 * each - 10)) for each in (along_x, along_y))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    expected = [
        [cos + along_x * sin, -sin + along_x * cos, (0.4 * x - 0.2) * 50],
        [along_y * cos + sin, -along_y * sin + cos, (0.4 * y - 0.2) * 60],
        [0, 0, 1],
    ]
    torch.testing.assert_close(params["matrix"], torch.tensor(expected))


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_outlines_masks_and_boxes_move_together(seed: int) -> None:
    with seeded(seed):
        image, target = YOLOXRandomAffine(scale=(0.8, 1.5), border=(5, 8))(*sample(seed))
    assert isinstance(target["polygons"], PolygonPoints)
    size = tuple(image.shape[-2:])
    assert size == (SIZE[0] + 10, SIZE[1] + 16) == target["polygons"].canvas_size == target["boxes"].canvas_size
    assert max(disagreement(target, row, 3) for row in range(3)) <= 12
    limit = torch.tensor([size[1], size[0]] * 2)
    for row, box in enumerate(target["boxes"].as_subclass(Tensor)):
        around = torch.minimum(extents(torch.cat(outlines_of(target, row))).clamp(min=0), limit)
        assert (box[:2] <= around[:2] + 1e-3).all()
        assert (box[2:] >= around[2:] - 1e-3).all()
    _, kept = Sanitize()(image, target)
    boxes = kept["boxes"].as_subclass(Tensor)
    assert ((boxes >= 0) & (boxes <= limit)).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()


def test_a_map_is_a_function_of_the_seed() -> None:
    results = []
    for _ in range(2):
        with seeded(9):
            results.append(YOLOXRandomAffine()(*sample(1)))
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in ("boxes", "polygons", "masks"))


def test_what_lies_outside_of_the_new_image_is_filled() -> None:
    away = torch.tensor([[1.0, 0, 500], [0, 1, 0], [0, 0, 1]])
    found = YOLOXRandomAffine().transform(noise(20, 20), {"matrix": away, "size": (10, 12)})
    assert found.shape == (3, 10, 12)
    assert found.unique().tolist() == [114]


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_pixels_are_those_of_a_map_of_the_whole_image(seed: int) -> None:
    """Only the part that can be seen is looked at; torch's own grid of the whole image says the same."""
    torch.manual_seed(seed)
    image = noise(40, 60)
    transform = YOLOXRandomAffine(degrees=40, translate=0.4, scale=(0.3, 3), shear=10, border=(-5, 3))
    params = transform.make_params([image])
    new, old = (torch.tensor([[w / 2, 0, w / 2], [0, h / 2, h / 2], [0, 0, 1]]) for h, w in (params["size"], (40, 60)))
    theta = old.inverse() @ params["matrix"].inverse() @ new
    grid = affine_grid(theta[None, :2], [1, 1, *params["size"]], align_corners=False)
    inside = grid_sample(torch.ones(1, 1, 40, 60), grid, align_corners=False)
    expected = grid_sample(image.as_subclass(Tensor)[None].float(), grid, align_corners=False) + 114 * (1 - inside)
    found = transform.transform(image, params).as_subclass(Tensor).float()
    assert (found - expected[0]).abs().max() <= 0.6


def test_no_masks_stay_no_masks() -> None:
    image, target = sample(0)
    target = {**target, "masks": tv_tensors.Mask(torch.zeros(0, *SIZE, dtype=torch.uint8))}
    assert YOLOXRandomAffine(border=(2, 2))(image, target)[1]["masks"].shape == (0, SIZE[0] + 4, SIZE[1] + 4)


def test_a_border_that_leaves_nothing_says_so() -> None:
    with pytest.raises(ValueError, match=r"the border \[-40, 0\] leaves nothing of \[60, 60\]"):
        YOLOXRandomAffine(border=(-40, 0))(noise(60, 60))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: YOLOXRandomAffine(shear=50), "YOLOXRandomAffine: shear: 50. It is an angle in degrees, below 45."),
        (
            lambda: YOLOXRandomAffine(scale=(2, 1)),
            "YOLOXRandomAffine: scale: [2, 1]. It is a lower and an upper bound, both above 0.",
        ),
    ],
)
def test_values_that_cannot_be(make: Callable[[], Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == line
