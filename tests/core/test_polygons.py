"""Outlines stay with boxes and masks through every geometric transform, and with their objects when rows are dropped."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from detcore.data import Sanitize, collate
from detcore.polygons import PolygonPoints
from detcore.structures import Polygons, clip_boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

SIZE = (90, 120)


def bitmap(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (H, W) whose centre lies inside of an outline: a line to the left crosses it an odd number of times."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    inside = np.zeros(size, bool)
    ends = points.double().numpy()
    for (x1, y1), (x2, y2) in zip(ends, np.roll(ends, -1, 0), strict=True):
        if y1 != y2:
            inside ^= ((y1 <= rows) != (y2 <= rows)) & (x1 + (rows - y1) / (y2 - y1) * (x2 - x1) < columns)
    return torch.from_numpy(inside)


def extents(points: Tensor) -> Tensor:
    return torch.cat([points.amin(0), points.amax(0)])


def sample(seed: int, objects: int = 3) -> tuple[tv_tensors.Image, dict[str, Any]]:
    """Blobs, each of one or two outlines, with their boxes and bitmaps."""
    generator = torch.Generator().manual_seed(seed)
    outlines, owner = [], []
    for row in range(objects):
        for _ in range(1 + row % 2):
            centre = torch.rand(2, generator=generator) * torch.tensor([SIZE[1] - 50, SIZE[0] - 50]) + 25
            turns = torch.arange(9) / 9 * 2 * torch.pi
            radii = 12 + 12 * torch.rand(9, generator=generator)
            outlines.append(centre + torch.stack([turns.cos(), turns.sin()], 1) * radii[:, None])
            owner.append(row)
    owners = torch.tensor(owner)
    mine = [[each for each, its in zip(outlines, owner, strict=True) if its == row] for row in range(objects)]
    masks = torch.stack([torch.stack([bitmap(each, SIZE) for each in its]).any(0) for its in mine])
    boxes = torch.stack([extents(torch.cat(its)) for its in mine])
    return tv_tensors.Image(torch.zeros(3, *SIZE, dtype=torch.uint8)), {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE),
        "labels": torch.arange(objects),
        "image_id": 0,
        "masks": tv_tensors.Mask(masks.byte()),
        "polygons": PolygonPoints(torch.cat(outlines), canvas_size=SIZE),
        "offsets": torch.tensor([0, *map(len, outlines)]).cumsum(0),
        "owner": owners,
    }


def outlines_of(target: dict[str, Any], row: int) -> list[Tensor]:
    points, offsets = target["polygons"].as_subclass(Tensor), target["offsets"].tolist()
    return [
        points[offsets[number] : offsets[number + 1]] for number in (target["owner"] == row).nonzero()[:, 0].tolist()
    ]


def disagreement(target: dict[str, Any], row: int, reach: int) -> int:
    """Pixels that are in the mask and not in the outlines or the other way round, farther than ``reach`` from an edge."""
    mask = target["masks"][row].as_subclass(Tensor).bool()
    drawn = torch.stack([bitmap(each, tuple(mask.shape)) for each in outlines_of(target, row)]).any(0)
    around = F.pad(mask[None, None].float(), (reach,) * 4, mode="replicate")
    side = 2 * reach + 1
    edge = F.max_pool2d(around, side, stride=1)[0, 0] != -F.max_pool2d(-around, side, stride=1)[0, 0]
    return int(((mask != drawn) & ~edge).sum())


EXACT = {
    "flip": v2.RandomHorizontalFlip(p=1),
    "vertical flip": v2.RandomVerticalFlip(p=1),
    "crop": v2.RandomCrop((60, 70)),
    "crop of a padded image": v2.RandomCrop((100, 130), pad_if_needed=True),
    "crop by IoU": v2.RandomIoUCrop(),
    "zoom out": v2.RandomZoomOut(p=1),
    "centre": v2.CenterCrop((50, 50)),
    "both flips": v2.Compose([v2.RandomHorizontalFlip(p=1), v2.RandomVerticalFlip(p=1)]),
}
NEAR = {
    "resize": v2.Resize(size=47, max_size=400, antialias=False),
    "enlarge": v2.Resize(size=(200, 301)),
    "resized crop": v2.RandomResizedCrop((80, 80), scale=(0.5, 1.0)),  # enlarged more, a pixel is wider than an edge
    "jitter": v2.ScaleJitter((128, 128), (0.5, 2)),
    "rotation": v2.RandomRotation(30),
    "affine": v2.RandomAffine(20, translate=(0.1, 0.1), scale=(0.8, 1.5), shear=10),
    "perspective": v2.RandomPerspective(0.3, p=1),
}


@given(st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
@pytest.mark.parametrize("name", EXACT)
def test_where_pixels_stay_pixels_outlines_and_masks_stay_the_same(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    _, target = EXACT[name](*sample(seed))
    assert isinstance(target["polygons"], PolygonPoints)
    assert max(disagreement(target, row, 0) for row in range(3)) <= 2  # where an outline cuts a pixel in half


@given(st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
@pytest.mark.parametrize("name", NEAR)
def test_where_pixels_are_sampled_outlines_and_masks_differ_along_the_edge_only(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    image, target = NEAR[name](*sample(seed))
    assert target["polygons"].canvas_size == tuple(image.shape[-2:])
    assert max(disagreement(target, row, 3) for row in range(3)) <= 12  # slivers thinner than a pixel


@given(st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
@pytest.mark.parametrize("name", [*EXACT, "resize", "enlarge", "resized crop", "jitter"])
def test_boxes_stay_the_extents_of_outlines(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    image, target = (EXACT | NEAR)[name](*sample(seed))
    for row, box in enumerate(target["boxes"].as_subclass(Tensor)):
        around = clip_boxes(extents(torch.cat(outlines_of(target, row))), torch.tensor(image.shape[-2:]))
        if box.any():  # a crop by IoU leaves zeros of objects that it takes for gone
            torch.testing.assert_close(box, around, atol=1e-3, rtol=0)


def test_torchvisions_own_key_points_would_be_a_pixel_away() -> None:
    image, target = sample(0)
    plain = tv_tensors.KeyPoints(target["polygons"].as_subclass(Tensor), canvas_size=SIZE)
    _, moved = EXACT["flip"](image, {**target, "polygons": plain})
    assert min(disagreement(moved, row, 0) for row in range(3)) > 0


def test_flips_mirror_at_the_edges_of_the_image() -> None:
    points = PolygonPoints(torch.tensor([[0.0, 1.0], [120.0, 90.0], [-5.0, 3.5]]), canvas_size=SIZE)
    assert v2.functional.horizontal_flip(points).tolist() == [[120, 1], [0, 90], [125, 3.5]]
    assert v2.functional.vertical_flip(points).tolist() == [[0, 89], [120, 0], [-5, 86.5]]
    assert points.tolist() == [[0, 1], [120, 90], [-5, 3.5]]


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_rows_are_dropped_with_their_outlines(seed: int) -> None:
    torch.manual_seed(seed)
    image, target = v2.RandomCrop((40, 40))(*sample(seed, objects=5))
    found, cleaned = Sanitize(min_size=4)(image, target)
    kept = cleaned["labels"].tolist()  # the row that each was
    assert isinstance(cleaned["polygons"], PolygonPoints)
    for row, before in enumerate(kept):
        mine, its = outlines_of(cleaned, row), outlines_of(target, before)
        assert len(mine) == len(its)
        assert all(torch.equal(new, old) for new, old in zip(mine, its, strict=True))
    batch = collate([(found, cleaned)])
    assert batch.targets is not None
    assert batch.targets.masks is not None
    (travels,) = batch.targets.masks
    assert isinstance(travels, Polygons)
    assert type(travels.points) is Tensor
    assert torch.equal(travels.points, cleaned["polygons"].as_subclass(Tensor))


@pytest.mark.parametrize(
    "again", [Tensor.clone, Tensor.detach, copy.copy, copy.deepcopy, lambda points: points.to("cpu", copy=True)]
)
def test_copies_are_mirrored_as_outlines_are(again: Callable[[Any], Any]) -> None:
    """torchvision's own copies of a class of ours would be its key points, a pixel away."""
    points = PolygonPoints(torch.tensor([[1.0, 2.0]]), canvas_size=(90, 120))
    copied = again(points)
    assert type(copied) is PolygonPoints
    assert copied.canvas_size == (90, 120)
    assert v2.functional.horizontal_flip(copied).tolist() == [[119, 2]]
