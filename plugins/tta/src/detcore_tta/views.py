"""Batches seen otherwise, and detections taken back from there.

An image lies at the top left of its canvas, and stays there in every view: it is mirrored inside its own height and
width, never with its padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import attrs
import torch
from detcore.structures import Batch, Detections, clip_boxes
from torch import Tensor
from torch.nn import functional as F

Flip = Literal["none", "horizontal", "vertical", "both"]
PadValue = float | tuple[float, float, float]


def flipped(batch: Batch, flip: Flip) -> Batch:
    """The same images mirrored: left is right (``horizontal``), top is bottom (``vertical``), or both."""
    images, proposals = batch.images, batch.proposals
    for dim, along in ((3, "horizontal"), (2, "vertical")):
        if flip in (along, "both"):
            images = _mirrored(images, batch.sizes[:, dim - 2], dim)
    if proposals is not None:
        proposals = [flip_found(each, size, flip) for each, size in zip(proposals, batch.sizes, strict=True)]
    return attrs.evolve(batch, images=images, proposals=proposals)


def _mirrored(images: Tensor, sides: Tensor, dim: int) -> Tensor:
    """Images (B, 3, H, W) whose first ``sides`` (B,) rows or columns are in reverse order."""
    at, ends = torch.arange(images.shape[dim], device=images.device), sides.round().long()[:, None]
    index = torch.where(at < ends, ends - 1 - at, at)
    shape = [len(images), 1, 1, 1]
    shape[dim] = -1
    return images.gather(dim, index.view(shape).expand_as(images))


def flip_found(found: Detections, size: Tensor, flip: Flip) -> Detections:
    """Detections mirrored inside an image of ``size`` (2,), height and width; masks inside of their boxes."""
    for axis, along in ((0, "horizontal"), (1, "vertical")):
        if flip in (along, "both"):
            boxes = found.boxes.clone()
            boxes[:, axis], boxes[:, axis + 2] = (size[1 - axis] - found.boxes[:, end] for end in (axis + 2, axis))
            masks = None if found.masks is None else found.masks.flip(2 - axis)
            found = attrs.evolve(found, boxes=boxes, masks=masks)
    return found


def scaled(batch: Batch, scale: float, divisor: int, pad_value: PadValue) -> Batch:
    """The same images ``scale`` times as large, in whole pixels, bilinear, on a canvas that holds them.

    Args:
        batch: B images.
        scale: Of height and width.
        divisor: Height and width of the canvas are multiples of it.
        pad_value: What stands in the padding, as the network reads it; one number, or one for each channel.
    """
    old = [[round(side) for side in size] for size in batch.sizes.tolist()]
    new = [[max(1, int(side * scale + 0.5)) for side in size] for size in old]
    padded = [[-(-side // divisor) * divisor for side in size] for size in new]
    value = batch.images.new_tensor(pad_value).view(-1, 1, 1)
    canvas = value.repeat(len(batch), 3 // len(value), *map(max, zip(*padded, strict=True)))
    for place, image, (height, width), size in zip(canvas, batch.images, old, new, strict=True):
        part = image[None, :, :height, :width]
        place[:, : size[0], : size[1]] = F.interpolate(part, size, mode="bilinear", align_corners=False)[0]
    sizes = batch.sizes.new_tensor(new)
    factors = sizes / batch.sizes.new_tensor(old)
    proposals = batch.proposals
    if proposals is not None:
        proposals = [stretch(each, factor) for each, factor in zip(proposals, factors, strict=True)]
    return attrs.evolve(
        batch,
        images=canvas,
        sizes=sizes,
        padded=batch.padded.new_tensor(padded),
        scale=batch.scale / factors.flip(-1),
        proposals=proposals,
    )


def stretch(found: Detections, factors: Tensor) -> Detections:
    """Detections with y and x multiplied by ``factors`` (2,); masks are of their boxes and stay."""
    return attrs.evolve(found, boxes=found.boxes * factors.flip(0).repeat(2))


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of one size as one; without targets."""
    if len(batches) == 1:
        return batches[0]

    def together(of: Callable[[Batch], Tensor]) -> Tensor:
        return torch.cat([of(each) for each in batches])

    proposals = [each for batch in batches for each in batch.proposals or ()]
    return attrs.evolve(
        batches[0],
        images=together(lambda each: each.images),
        sizes=together(lambda each: each.sizes),
        padded=together(lambda each: each.padded),
        scale=together(lambda each: each.scale),
        ids=[id_ for batch in batches for id_ in batch.ids],
        proposals=proposals if batches[0].proposals is not None else None,
    )


def taken_back(found: Detections, flip: Flip, size: Tensor, original: Tensor | None) -> Detections:
    """What was found in a view, in pixels of the batch that it is a view of.

    Args:
        found: In pixels of the view.
        flip: Of the view.
        size: (2,) height and width of the image in the view.
        original: (2,) those in the batch; None: the view is not scaled.
    """
    found = flip_found(found, size, flip)
    if original is None:
        return found
    found = stretch(found, original / size)
    return attrs.evolve(found, boxes=clip_boxes(found.boxes, original))
