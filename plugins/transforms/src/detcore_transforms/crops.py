"""Random parts of images, chosen with an eye on the objects: as SSD, DETR and CornerNet train on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from detcore_transforms.targets import check_range, check_size, is_image, refused, uniform

TRIES = 50
"""Parts tried before another choice is made."""
MEAN = (124, 116, 104)
"""The mean colour of ImageNet."""
Window = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image; it may stand out."""


class Crop(Transform):  # type: ignore[misc]  # torchvision is not typed
    """What crops share: the part is chosen by ``choose``; None leaves the sample as it is.

    Boxes, those of proposals too, are cut at the part's border, outlines are not; no object is dropped: ``Sanitize``
    does that.
    """

    fill: Sequence[int] = (0, 0, 0)

    def choose(self, size: tuple[int, int], boxes: Tensor) -> tuple[Window, Tensor] | None:
        """Of an image of this height and width with ``boxes`` (G, 4) the part, and (G,) bool, which objects count.

        Boxes of objects that do not count become zeros, which ``Sanitize`` drops.
        """
        raise NotImplementedError  # a subclass says what, as with torchvision's own ``transform``

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The part, the objects that count, and their boxes, which come first: others are those of proposals."""
        height, width = F.get_size(flat_inputs[0])
        boxes = next((each for each in flat_inputs if isinstance(each, tv_tensors.BoundingBoxes)), None)
        known = torch.zeros(0, 4) if boxes is None else boxes.as_subclass(Tensor)
        return {"chosen": self.choose((height, width), known), "objects": boxes}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See the class."""
        if params["chosen"] is None:
            return inpt
        window, counts = params["chosen"]
        if is_image(inpt):
            return cut(inpt, window, self.fill)
        part = F.crop(inpt, *window)
        if inpt is params["objects"]:
            return tv_tensors.wrap(part.as_subclass(Tensor) * counts[:, None], like=part)
        return part


class MinIoURandomCrop(Crop):
    """A part that each object overlaps by at least a random IoU, and with the centre of one at least (SSD, 2.2).

    In difference to ``RandomIoUCrop``, torchvision's, for which one object that overlaps enough suffices. The choices
    are each of ``min_ious``, 0, and the whole image. Objects whose centre is outside do not count.

    Args:
        min_ious: The least overlaps to choose from.
        min_crop_size: The least width and height of the part, as a share of the image's.
    """

    def __init__(self, *, min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size: float = 0.3) -> None:
        super().__init__()
        check_range(self, "min_crop_size", (min_crop_size, 1.0))
        self.min_ious = tuple(min_ious)
        self.min_crop_size = min_crop_size

    def choose(self, size: tuple[int, int], boxes: Tensor) -> tuple[Window, Tensor] | None:
        """See :class:`Crop`."""
        choices = (1.0, *self.min_ious, 0.0)
        while True:
            least = choices[int(torch.randint(len(choices), ()))]
            if least >= 1:
                return None
            for _ in range(TRIES):
                window = self._window(size)
                if allowed(window, boxes, least):
                    return window, centred(boxes, window)

    def _window(self, size: tuple[int, int]) -> Window:
        height, width = (max(1, int(uniform(self.min_crop_size, 1) * side)) for side in size)
        return int(uniform(0, size[0] - height)), int(uniform(0, size[1] - width)), height, width


def allowed(window: Window, boxes: Tensor, least: float) -> bool:
    """Whether no side is more than twice the other, all objects overlap enough, and the centre of one is inside."""
    if not 0.5 <= window[2] / window[3] <= 2:
        return False
    return not len(boxes) or bool(centred(boxes, window).any() and box_iou(boxes, _corners(window)).min() >= least)


class RandomSizeCrop(Crop):
    """A part of random place, and of given or random size.

    Args:
        size: Two numbers, see ``kind``.
        kind: ``"absolute"``: height and width in pixels, at most the image's. ``"absolute_range"``: height and width
            are each between these, in pixels. ``"relative"``: shares of the image's height and width.
            ``"relative_range"``: shares between these and 1.
        allow_empty: Whether the part may be without any object where the image has some; else others are tried, and
            the image stays as it is if none is found.
    """

    def __init__(
        self,
        *,
        size: tuple[float, float],
        kind: Literal["absolute", "absolute_range", "relative", "relative_range"] = "absolute",
        allow_empty: bool = False,
    ) -> None:
        super().__init__()
        if min(size) <= 0 or (kind.startswith("relative") and max(size) > 1):
            fix = "They are shares above 0, up to 1." if kind.startswith("relative") else "They are above 0."
            raise refused(self, "size", list(size), fix)
        if kind == "absolute_range":
            check_range(self, "size", size)
        self.size = size
        self.kind = kind
        self.allow_empty = allow_empty

    def choose(self, size: tuple[int, int], boxes: Tensor) -> tuple[Window, Tensor] | None:
        """See :class:`Crop`."""
        for _ in range(TRIES):
            height, width = self.sides(size)
            top, left = (
                int(torch.randint(have - want + 1, ())) for have, want in zip(size, (height, width), strict=True)
            )
            seen = (top, left, height, width)
            if self.allow_empty or not len(boxes) or reached(boxes, seen).any():
                return seen, torch.ones(len(boxes), dtype=torch.bool)
        return None

    def sides(self, size: tuple[int, int]) -> list[int]:
        """Height and width of a part of an image of this height and width."""
        if self.kind == "absolute":
            return [min(side, int(own)) for side, own in zip(size, self.size, strict=True)]
        if self.kind == "absolute_range":
            low, high = (int(own) for own in self.size)
            return [int(torch.randint(min(side, low), min(side, high) + 1, ())) for side in size]
        shares = self.size if self.kind == "relative" else [uniform(share, 1) for share in self.size]
        return [max(1, int(side * share + 0.5)) for side, share in zip(size, shares, strict=True)]


class RandomCenterCropPad(Crop):
    """A part around a random point, which may stand out over the image (CornerNet; Law and Deng 2018, section 4.1).

    The part has a random one of ``ratios`` times ``size``; the point keeps away from the image's edges by ``border``
    pixels (less where the image is small). The centre of an object at least is inside, if the image has any.

    Args:
        size: Height and width in pixels.
        ratios: Factors of it to choose from.
        border: In pixels.
        fill: The colour of what stands out: red, green, blue.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (511, 511),
        ratios: Sequence[float] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
        border: int = 128,
        fill: tuple[int, int, int] = MEAN,
    ) -> None:
        super().__init__()
        check_size(self, "size", size)
        if not ratios or min(ratios) <= 0:
            raise refused(self, "ratios", list(ratios), "They are factors above 0, at least one.")
        if border < 1:
            raise refused(self, "border", border, "It is at least 1.")
        self.size = size
        self.ratios = tuple(ratios)
        self.border = border
        self.fill = fill

    def choose(self, size: tuple[int, int], boxes: Tensor) -> tuple[Window, Tensor] | None:
        """See :class:`Crop`."""
        every = torch.ones(len(boxes), dtype=torch.bool)
        borders = [narrowed(self.border, side) for side in size]
        while True:
            ratio = self.ratios[int(torch.randint(len(self.ratios), ()))]
            height, width = (max(1, int(side * ratio)) for side in self.size)
            for _ in range(TRIES):
                y, x = (int(torch.randint(off, side - off, ())) for off, side in zip(borders, size, strict=True))
                window = y - height // 2, x - width // 2, height, width
                if not len(boxes) or centred(boxes, window).any():
                    return window, every
            if not centred(boxes, (0, 0, *size)).any():  # no part can hold a centre
                return window, every


class CenterPad(Crop):
    """The image in the middle of a canvas whose height and width are its own with the bits of ``bits`` set.

    This is how CornerNet is tested there (127). Detections are then in pixels of the canvas: it is not for ``[val]``,
    whose transforms may resize, no more.

    Args:
        bits: 2^n - 1: sides become the next that is one less than a multiple of 2^n.
        fill: The colour around: red, green, blue.
    """

    def __init__(self, *, bits: int = 127, fill: tuple[int, int, int] = MEAN) -> None:
        super().__init__()
        if bits < 0 or bits & (bits + 1):
            raise refused(self, "bits", bits, "It is one less than a power of 2, such as 127.")
        self.bits = bits
        self.fill = fill

    def choose(self, size: tuple[int, int], boxes: Tensor) -> tuple[Window, Tensor] | None:
        """See :class:`Crop`."""
        height, width = (side | self.bits for side in size)
        window = size[0] // 2 - height // 2, size[1] // 2 - width // 2, height, width
        return window, torch.ones(len(boxes), dtype=torch.bool)


def cut(image: Any, window: Window, fill: Sequence[int]) -> Any:
    """A part of an image; what stands out has the colour ``fill``."""
    top, left, height, width = window
    high, wide = F.get_size(image)
    rows, columns = (max(top, 0), min(top + height, high)), (max(left, 0), min(left + width, wide))
    inner = F.crop(image, rows[0], columns[0], rows[1] - rows[0], columns[1] - columns[0])
    padding = [columns[0] - left, rows[0] - top, left + width - columns[1], top + height - rows[1]]
    return F.pad(inner, padding, fill=[float(each) for each in fill]) if any(padding) else inner


def centred(boxes: Tensor, window: Window) -> Tensor:
    """(G,) bool: the centre is inside."""
    top, left, height, width = window
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(1)
    return (x > left) & (x < left + width) & (y > top) & (y < top + height)


def reached(boxes: Tensor, window: Window) -> Tensor:
    """(G,) bool: some of the box is inside."""
    corners = _corners(window)
    return (torch.minimum(boxes[:, 2:], corners[:, 2:]) > torch.maximum(boxes[:, :2], corners[:, :2])).all(1)


def narrowed(border: int, side: int) -> int:
    """``border``, halved until twice of it is less than ``side``."""
    share = 2 * border / side
    return int(border // 2 ** (math.ceil(math.log2(math.ceil(share))) + (share == int(share))))


def _corners(window: Window) -> Tensor:
    top, left, height, width = window
    return torch.tensor([[left, top, left + width, top + height]], dtype=torch.float32)
