"""What components are given: noise, maps, boxes and batches, the same each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch
from torch import Tensor

from detcore.data import seeded
from detcore.interfaces import Flow
from detcore.structures import Batch, Detections, Targets

Size = tuple[int, int]

FIRST = "one object in each image"
CASES: Mapping[str, tuple[Size, bool]] = {  # objects of the two images, and whether all are crowds
    FIRST: ((1, 1), False),
    "no object": ((0, 0), False),
    "no object in one of the images": ((3, 0), False),
    "300 objects": ((300, 2), False),
    "nothing but crowds": ((2, 1), True),
}
"""What is in the two images of a batch that a head learns from."""


def noise(*shape: int) -> Tensor:
    """Normal numbers, the same for each shape."""
    with seeded(0):
        return torch.randn(shape)


def maps_of(flow: Flow, size: Size) -> list[Tensor]:
    """The maps (2, C_l, H_l, W_l) of two images of a size, as ``flow`` says."""
    channels, strides = flow.channels or (), flow.strides or ()
    sides = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    return [noise(2, each, *side) for each, side in zip(channels, sides, strict=True)]


def random_boxes(count: int, height: int, width: int) -> Tensor:
    """(N, 4) inside, with sides of a tenth to half of the image's."""
    span = torch.tensor([width, height])
    sides = span * (0.1 + 0.4 * torch.rand(count, 2))
    corner = torch.rand(count, 2) * (span - sides)
    return torch.cat([corner, corner + sides], 1)


def batch_of(counts: Size, crowd: bool, size: Size, classes: int, *, masks: bool = False) -> Batch:
    """Two images, the second smaller, with so many objects, or crowds; ``masks``: each fills its box."""
    sizes = torch.tensor([size, (size[0] * 3 // 4, size[1] * 2 // 3)])
    real = torch.arange(max(*counts, 1)) < torch.tensor(counts)[:, None]
    with seeded(4):
        boxes = torch.stack([random_boxes(real.shape[1], *each) for each in sizes.tolist()]) * real[..., None]
        labels = torch.randint(classes, real.shape) * real
    outlines = [filled(each[:count], size) for each, count in zip(boxes, counts, strict=True)] if masks else None
    targets = Targets(boxes, labels, valid=real & (not crowd), crowd=real & crowd, masks=outlines)
    padded = -(-sizes // 32) * 32
    return Batch(noise(2, 3, *size), sizes.float(), padded.float(), torch.ones(2, 2), (7, 8), targets)


def filled(boxes: Tensor, size: Size) -> Tensor:
    """Boxes (G, 4) -> masks (G, H, W) uint8 of the pixels whose centre is inside."""
    y, x = (torch.arange(side) + 0.5 for side in size)
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    rows, columns = (top <= y) & (y <= bottom), (left <= x) & (x <= right)
    return (rows[:, :, None] & columns[:, None]).to(torch.uint8)


def image_of(batch: Batch, image: int) -> Batch:
    """One image of a batch, alone and without targets."""
    rows = slice(image, image + 1)
    fields = {name: getattr(batch, name)[rows] for name in ("images", "sizes", "padded", "scale", "ids")}
    return attrs.evolve(batch, targets=None, **fields)


def proposals_of(counts: Sequence[int], batch: Batch) -> list[Detections]:
    """Random regions of each image, best first."""
    with seeded(5):
        boxes = [random_boxes(count, *size) for count, size in zip(counts, batch.sizes.int().tolist(), strict=True)]
    return [
        Detections(each, torch.linspace(1, 0.1, len(each)), torch.zeros(len(each), dtype=torch.int64)) for each in boxes
    ]
