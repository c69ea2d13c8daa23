"""Images of random size, and objects too small to learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from detcore.data import Sanitize
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from detcore_transforms.targets import check_range, check_size, refused, uniform


class RandomChoiceResize(Transform):  # type: ignore[misc]  # torchvision is not typed
    """Resizes to one of several sizes.

    (``RandomShortestSize``, torchvision's, has one limit of the longer side for all.)

    Args:
        sizes: Each two numbers of pixels.
        keep_ratio: As large as the larger number holds the longer side, and the smaller one the shorter side; else the
            two are height and width.
        antialias: Of the image, where it gets smaller.
    """

    def __init__(self, *, sizes: Sequence[tuple[int, int]], keep_ratio: bool = True, antialias: bool = False) -> None:
        super().__init__()
        if not sizes:
            raise refused(self, "sizes", "there are none", "Name at least one.")
        for number, size in enumerate(sizes):
            check_size(self, f"sizes[{number}]", size)
        self.sizes = [(int(one), int(other)) for one, other in sizes]
        self.keep_ratio = keep_ratio
        self.antialias = antialias

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The new height and width."""
        chosen = self.sizes[int(torch.randint(len(self.sizes), ()))]
        return {"size": scaled(F.get_size(flat_inputs[0]), chosen) if self.keep_ratio else [*chosen]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See the class."""
        return F.resize(inpt, params["size"], antialias=self.antialias)


class RandomRangeResize(Transform):  # type: ignore[misc]  # torchvision is not typed
    """Resizes to a size between two, or to one times a random factor.

    Args:
        least: Two numbers of pixels.
        most: Each of the two is between that of ``least`` and this.
        ratio: Both are those of ``least`` times one factor between these, rounded down. Either this or ``most``.
        keep_ratio: As large as the larger number holds the longer side, and the smaller one the shorter side; else the
            two are height and width.
        antialias: Of the image, where it gets smaller.
    """

    def __init__(
        self,
        *,
        least: tuple[int, int],
        most: tuple[int, int] | None = None,
        ratio: tuple[float, float] | None = None,
        keep_ratio: bool = True,
        antialias: bool = False,
    ) -> None:
        super().__init__()
        check_size(self, "least", least)
        if (most is None) == (ratio is None):
            raise refused(self, "most", most, "It takes either most or ratio.")
        if ratio is not None:
            check_range(self, "ratio", ratio)
        for low, high in zip(least, most or least, strict=True):
            if high < low:
                raise refused(self, "most", list(most or ()), f"Neither is below that of least, {list(least)}.")
        self.least = least
        self.most = most
        self.ratio = ratio
        self.keep_ratio = keep_ratio
        self.antialias = antialias

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The new height and width."""
        chosen = self.choose()
        return {"size": scaled(F.get_size(flat_inputs[0]), chosen) if self.keep_ratio else chosen}

    def choose(self) -> list[int]:
        """Two random numbers of pixels."""
        if self.ratio is not None:
            factor = uniform(*self.ratio)
            return [max(1, int(side * factor)) for side in self.least]
        pairs = zip(self.least, self.most or self.least, strict=True)
        return [int(torch.randint(low, high + 1, ())) for low, high in pairs]

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See the class."""
        return F.resize(inpt, params["size"], antialias=self.antialias)


def scaled(size: Sequence[int], limits: Sequence[int]) -> list[int]:
    """The largest size of a ratio whose longer and shorter side are at most the larger and the smaller limit."""
    factor = min(max(limits) / max(size), min(limits) / min(size))
    return [max(1, int(side * factor + 0.5)) for side in size]


class LargeScaleJitter(Transform):  # type: ignore[misc]  # torchvision is not typed
    """Scaled by a random factor, then cut or padded to a size (Ghiasi et al. 2021, Simple Copy-Paste, section 3).

    At a factor of 1 the image is as large as ``size`` holds. Of a larger one a random part is taken; a smaller one lies
    at the top left.

    Args:
        size: Height and width of what comes out, in pixels.
        ratio: The factor is between these.
        fill: The value of pixels where the image is not.
        antialias: Of the image, where it gets smaller.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (1024, 1024),
        ratio: tuple[float, float] = (0.1, 2.0),
        fill: int = 114,
        antialias: bool = False,
    ) -> None:
        super().__init__()
        check_size(self, "size", size)
        check_range(self, "ratio", ratio)
        self.size = size
        self.ratio = ratio
        self.fill = fill
        self.antialias = antialias

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size after scaling, and top and left of the part."""
        old, factor = F.get_size(flat_inputs[0]), uniform(*self.ratio)
        factor *= min(most / side for most, side in zip(self.size, old, strict=True))
        new = [max(1, int(side * factor + 0.5)) for side in old]
        over = (max(0, side - most) for side, most in zip(new, self.size, strict=True))
        return {"new": new, "corner": [int(torch.randint(room + 1, ())) for room in over]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See the class."""
        new = params["new"]
        height, width = (min(side, most) for side, most in zip(new, self.size, strict=True))
        part = F.crop(F.resize(inpt, new, antialias=self.antialias), *params["corner"], height, width)
        fill = 0 if isinstance(inpt, tv_tensors.Mask) else self.fill
        return F.pad(part, [0, 0, self.size[1] - width, self.size[0] - height], fill=fill)


class FilterBoxes(Sanitize):
    """Drops objects by the size of what of their box is inside the image; they are counted, as those of ``Sanitize``.

    Args:
        min_width: In pixels.
        min_height: In pixels.
        min_area: In pixels, of the box.
        max_area: In pixels, of the box.
    """

    def __init__(
        self,
        *,
        min_width: float = 1.0,
        min_height: float = 1.0,
        min_area: float = 0.0,
        max_area: float = math.inf,
    ) -> None:
        super().__init__()
        if max_area < min_area:
            raise refused(self, "max_area", max_area, f"It is at least min_area, {min_area:g}.")
        self.least = (min_width, min_height)
        self.areas = (min_area, max_area)

    def keeps(self, sizes: Tensor) -> Tensor:
        """See :class:`detcore.data.Sanitize`."""
        areas = sizes.prod(1)
        return (sizes >= sizes.new_tensor(self.least)).all(1) & (areas >= self.areas[0]) & (areas <= self.areas[1])
