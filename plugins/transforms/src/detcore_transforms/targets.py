"""What transforms of whole samples share: moving all of a sample, fitting it, joining several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detcore.data import ROWS, Sample
from detcore.errors import ConfigError
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

OUTLINES = ("polygons", "offsets", "owner")
"""Entries of a target that outlines are made of."""


def uniform(low: float, high: float) -> float:
    """A number between the two, from torch's generator."""
    return low + (high - low) * float(torch.rand(()))


def is_image(each: object) -> bool:
    """Whether a part of a sample that transforms are given is its image."""
    return not isinstance(each, tv_tensors.BoundingBoxes | tv_tensors.Mask | tv_tensors.KeyPoints)


def moved(image: Any, target: dict[str, Any], move: Callable[[Any], Any]) -> Sample:
    """A sample whose image, boxes, masks and outlines went through ``move``."""
    kinds = tv_tensors.TVTensor
    return move(image), {name: move(each) if isinstance(each, kinds) else each for name, each in target.items()}


def fitted(image: Any, target: dict[str, Any], size: tuple[int, int]) -> Sample:
    """A sample as large as ``size``, (height, width), holds; its ratio stays. No antialiasing."""
    new = fitting(F.get_size(image), size)
    return moved(image, target, lambda each: F.resize(each, new, antialias=False))


def fitting(size: Sequence[int], into: Sequence[int]) -> list[int]:
    """The largest height and width of the ratio of ``size`` that are at most those of ``into``, in whole pixels."""
    (height, width), (most_high, most_wide) = size, into
    if most_high * width <= most_wide * height:
        return [most_high, max(1, width * most_high // height)]
    return [max(1, height * most_wide // width), most_wide]


def padded(image: Any, target: dict[str, Any], size: tuple[int, int], fill: int) -> Sample:
    """A sample at the top left of a canvas of at least ``size``."""
    height, width = F.get_size(image)
    padding = [0, 0, max(0, size[1] - width), max(0, size[0] - height)]

    def pad(each: Any) -> Any:
        return F.pad(each, padding, fill=0 if isinstance(each, tv_tensors.Mask) else fill)

    return moved(image, target, pad)


def joined(targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The objects of several targets, which lie on the same canvas, as one target; the first's name stays.

    What has a row per object is kept where all have it, and so are outlines.
    """
    rows = {
        name: tv_tensors.wrap(torch.cat([target[name] for target in targets]), like=targets[0][name])
        for name in ROWS
        if all(name in target for target in targets)
    }
    others = {name: value for name, value in targets[0].items() if name not in (*ROWS, *OUTLINES)}
    dropped = sum(target.get("dropped", 0) for target in targets)
    outlines = _outlines(targets) if all("polygons" in target for target in targets) else {}
    return {**others, **rows, **outlines, **({"dropped": dropped} if dropped else {})}


def _outlines(targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    points, lengths, owners, objects = [], [], [], 0
    for target in targets:
        points.append(target["polygons"].as_subclass(Tensor))
        lengths.append(target["offsets"].diff())
        owners.append(target["owner"] + objects)
        objects += len(target["boxes"])
    ends = torch.cat(lengths).cumsum(0)
    return {
        "polygons": tv_tensors.wrap(torch.cat(points), like=targets[0]["polygons"]),
        "offsets": torch.cat([ends.new_zeros(1), ends]),
        "owner": torch.cat(owners),
    }


def refused(owner: object, parameter: str, found: object, fix: str) -> ConfigError:
    """The error of a constructor that cannot take a value."""
    return ConfigError(f"{type(owner).__name__}: {parameter}", f"{found}", fix)


def check_range(owner: object, parameter: str, value: Sequence[float], least: float = 0.0) -> None:
    """Raises ConfigError where ``value`` is not a lower and an upper bound, above ``least``."""
    if not least < value[0] <= value[1]:
        raise refused(owner, parameter, list(value), f"It is a lower and an upper bound, both above {least:g}.")


def check_share(owner: object, parameter: str, value: float) -> None:
    """Raises ConfigError where ``value`` is no probability."""
    if not 0 <= value <= 1:
        raise refused(owner, parameter, value, "It is a share, from 0 to 1.")


def check_size(owner: object, parameter: str, value: Sequence[int]) -> None:
    """Raises ConfigError where ``value`` is not a height and a width in pixels."""
    if min(value) < 1:
        raise refused(owner, parameter, list(value), "It is a height and a width, each at least 1.")


def check_count(owner: object, parameter: str, value: int) -> None:
    """Raises ConfigError where ``value`` is below 1."""
    if value < 1:
        raise refused(owner, parameter, value, "It is at least 1.")
