"""Mosaics and mixed images, as YOLOX trains on them (Ge et al. 2021, section 2.1; the mosaic is YOLOv4's)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detcore.data import Mixing, Sample, Samples
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from detcore_transforms.targets import (
    check_count,
    check_range,
    check_share,
    check_size,
    fitted,
    joined,
    moved,
    padded,
    uniform,
)

GREY = 114
"""What YOLOX has where no image is."""


class Mosaic(Mixing):
    """Four images around a random point, on a canvas of twice ``size``: this one at the top left, three others.

    Each is as large as ``size`` holds and touches the point with a corner; what stands out over the canvas is cut. No
    object is dropped: ``Sanitize`` does that.

    Args:
        size: Height and width, in pixels, of what the canvas is twice of.
        centre: Where the point is, in parts of ``size``: between these, down and across.
        fill: The value of pixels where no image is.
        p: How probable a mosaic is.
        transforms: What the others go through before.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (640, 640),
        centre: tuple[float, float] = (0.5, 1.5),
        fill: int = GREY,
        p: float = 1.0,
        transforms: Sequence[Transform] = (),
    ) -> None:
        super().__init__()
        check_size(self, "size", size)
        check_range(self, "centre", centre)
        check_share(self, "p", p)
        self.size = size
        self.centre = centre
        self.fill = fill
        self.p = p
        self.transforms = transforms

    def mix(self, image: Any, target: dict[str, Any], others: Samples) -> Sample:
        """See the class."""
        if torch.rand(()) >= self.p:
            return image, target
        centre = [int(uniform(*self.centre) * side) for side in self.size]
        return self.around(centre, [(image, target), *(others.draw(self.transforms) for _ in range(3))])

    def around(self, centre: Sequence[int], samples: Sequence[Sample]) -> Sample:
        """Four samples around a point, y and x: top left, top right, bottom left, bottom right."""
        height, width = canvas = [2 * side for side in self.size]
        pixels = torch.full((3, *canvas), self.fill, dtype=torch.uint8)
        targets = []
        for number, sample in enumerate(samples):
            image, target = fitted(*sample, self.size)
            high, wide = F.get_size(image)
            top, left = centre[0] - high * (number < 2), centre[1] - wide * (number % 2 == 0)
            rows, columns = slice(max(top, 0), top + high), slice(max(left, 0), left + wide)
            pixels[:, rows, columns] = image[:, rows.start - top : height - top, columns.start - left : width - left]
            targets.append(_on_canvas(target, top, left, canvas))
        return tv_tensors.Image(pixels), joined(targets)


def _on_canvas(target: dict[str, Any], top: int, left: int, canvas: Sequence[int]) -> dict[str, Any]:
    """A target whose image begins at ``top`` and ``left`` of a canvas, both may be negative."""
    return {
        name: F.crop(each, -top, -left, *canvas) if isinstance(each, tv_tensors.TVTensor) else each
        for name, each in target.items()
    }


class MixUp(Mixing):
    """The mean of this image and another one, with the objects of both (Zhang et al. 2018, as YOLOX has it).

    The other one is as large as ``size`` holds, at the top left of a canvas of that size; this is enlarged or reduced
    at random, and perhaps flipped. Of what is larger than the image a random part is taken; what is smaller lies at the
    top left. Where ``tries`` others had no object, the image stays as it is.

    Args:
        size: Height and width, in pixels, of the canvas before it is scaled.
        ratio: The canvas is scaled by a factor between these.
        flip: How probable it is that the other one is flipped.
        fill: The value of pixels where the other one is not.
        tries: How many others are drawn, until one has an object.
        p: How probable it is that images are mixed.
        transforms: What the other one goes through before.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (640, 640),
        ratio: tuple[float, float] = (0.5, 1.5),
        flip: float = 0.5,
        fill: int = GREY,
        tries: int = 15,
        p: float = 1.0,
        transforms: Sequence[Transform] = (),
    ) -> None:
        super().__init__()
        check_size(self, "size", size)
        check_range(self, "ratio", ratio)
        check_share(self, "flip", flip)
        check_share(self, "p", p)
        check_count(self, "tries", tries)
        self.size = size
        self.ratio = ratio
        self.flip = flip
        self.fill = fill
        self.tries = tries
        self.p = p
        self.transforms = transforms

    def mix(self, image: Any, target: dict[str, Any], others: Samples) -> Sample:
        """See the class."""
        if torch.rand(()) >= self.p:
            return image, target
        for _ in range(self.tries):
            other = others.draw(self.transforms)
            if len(other[1]["boxes"]):
                part = self.part(*other, F.get_size(image))
                return averaged((image, target), part)
        return image, target

    def part(self, image: Any, target: dict[str, Any], size: Sequence[int]) -> Sample:
        """What of another sample is mixed with an image of this size."""
        sample = padded(*fitted(image, target, self.size), self.size, self.fill)
        factor = uniform(*self.ratio)
        scaled = [max(1, int(side * factor)) for side in self.size]
        sample = moved(*sample, lambda each: F.resize(each, scaled, antialias=False))
        if torch.rand(()) < self.flip:
            sample = moved(*sample, F.horizontal_flip)
        sample = padded(*sample, (size[0], size[1]), self.fill)
        top, left = (
            int(torch.randint(have - want + 1, ())) for have, want in zip(F.get_size(sample[0]), size, strict=True)
        )
        return moved(*sample, lambda each: F.crop(each, top, left, *size))


def averaged(first: Sample, second: Sample) -> Sample:
    """The mean of two images of one size, rounded down, with the objects of both."""
    one, other = (image.as_subclass(Tensor).to(torch.int16) for image, _ in (first, second))
    mean = ((one + other) >> 1).to(torch.uint8)
    return tv_tensors.Image(mean), joined([first[1], second[1]])
