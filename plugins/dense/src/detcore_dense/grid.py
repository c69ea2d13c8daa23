"""The cells of a pyramid of maps, as the geometries place their priors on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import attrs
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Features
from torch import Tensor

Sizes = tuple[tuple[int, int], ...]
"""Height and width of each map, in cells."""
Steps = tuple[tuple[int, int], ...]
"""Of each map, how far its cells are apart down and to the right, input pixels."""


@attrs.define(eq=False)
class Grid:
    """One row per prior: level by level, cells row by row, the priors of a cell side by side.

    Not frozen, as the records of :mod:`detcore.structures` are not: torch.compile could not trace how one is made.

    Attributes:
        corner: (P, 2) float32, x and y of the upper left corner of the prior's cell, input pixels.
        stride: (P,) float32, side of the cell.
        level: (P,) int64.
        per_level: How many priors each level has.
    """

    corner: Tensor
    stride: Tensor
    level: Tensor
    per_level: Sequence[int]

    def inside(self, padded: Tensor) -> Tensor:
        """(B, P) bool: the cell begins inside the image's padded height and width (B, 2)."""
        return (self.corner < padded.flip(-1)[:, None]).all(-1)


def map_sizes(features: Features, strides: Sequence[int]) -> Sizes:
    """Height and width of each map.

    Raises:
        ConfigError: There are more or fewer maps than strides.
    """
    if len(features) != len(strides):
        raise ConfigError("strides", f"{len(strides)} strides for {len(features)} maps", "Give one stride per map.")
    return tuple((int(level.shape[-2]), int(level.shape[-1])) for level in features)


def steps_over(images: Tensor, sizes: Sizes) -> Steps:
    """How far cells are apart where as many as a map has share the sides of the images (B, 3, H, W), rounded down."""
    height, width = int(images.shape[-2]), int(images.shape[-1])
    return tuple((height // down, width // across) for down, across in sizes)


def grid(
    sizes: Sizes, strides: tuple[int, ...], priors_per_cell: int, device: torch.device, steps: Steps | None = None
) -> Grid:
    """The cells of maps of these sizes; made once per sizes and device, but a compiled graph makes them itself.

    Args:
        sizes: Of the maps.
        strides: Of the maps.
        priors_per_cell: A.
        device: Where to.
        steps: How far cells are apart; None: a stride.
    """
    steps = steps or tuple((stride, stride) for stride in strides)
    if torch.compiler.is_compiling():  # one graph serves all sizes, and keeps nothing that is traced
        return _make_grid(sizes, strides, priors_per_cell, device, steps)
    with torch.inference_mode(False):  # what is kept must serve training as well
        return _kept_grid(sizes, strides, priors_per_cell, device, steps)


def _make_grid(
    sizes: Sizes, strides: tuple[int, ...], priors_per_cell: int, device: torch.device, steps: Steps
) -> Grid:
    corners = [_corners(*size, *step, device) for size, step in zip(sizes, steps, strict=True)]
    per_level = [height * width * priors_per_cell for height, width in sizes]
    return Grid(
        corner=torch.cat(corners).repeat_interleave(priors_per_cell, 0),
        stride=_per_prior(strides, per_level, torch.float32, device),
        level=_per_prior(range(len(strides)), per_level, torch.int64, device),
        per_level=tuple(per_level),
    )


_kept_grid = lru_cache(maxsize=32)(_make_grid)


def _corners(height: int, width: int, down: int, across: int, device: torch.device) -> Tensor:
    rows, columns = torch.arange(height, device=device) * down, torch.arange(width, device=device) * across
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2).float()


def _per_prior(values: Sequence[int], counts: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.cat(
        [torch.full((count,), value, dtype=dtype, device=device) for value, count in zip(values, counts, strict=True)]
    )
