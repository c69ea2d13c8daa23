"""Anchors: boxes of several scales and ratios on each cell, predicted boxes relative to them (Ren et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Features, Geometry, Strides
from detcore.structures import Batch, Priors
from torch import Tensor

from detcore_dense.deltas import DeltaXYWHCoder
from detcore_dense.grid import Grid, Sizes, grid, map_sizes

Shapes = tuple[tuple[tuple[float, ...], ...], ...]
"""Per level the anchors of the cell at the origin."""


def anchor_shapes(base_size: float, scales: Sequence[float], ratios: Sequence[float], center_offset: float) -> Tensor:
    """The anchors (A, 4) of a cell whose upper left corner is the origin; ratio by ratio, each in all scales.

    Args:
        base_size: Side of the square of scale 1 and ratio 1, input pixels.
        scales: Factors of the side.
        ratios: Heights over widths; the area stays.
        center_offset: Where the common centre lies, as a share of ``base_size``.
    """
    width = torch.tensor([base_size * scale / math.sqrt(ratio) for ratio in ratios for scale in scales])
    height = torch.tensor([base_size * scale * math.sqrt(ratio) for ratio in ratios for scale in scales])
    half = torch.stack([width, height], -1) / 2
    return torch.cat([center_offset * base_size - half, center_offset * base_size + half], -1)


class Anchors(Geometry):
    """A anchors per cell; a predicted vector holds deltas, see :class:`detcore_dense.deltas.DeltaXYWHCoder`.

    Args:
        strides: Input pixels per cell of each map.
        ratios: Heights over widths.
        scales: Sides in base sizes; or else
        octave_base_scale: the smallest scale, and
        scales_per_octave: how many there are from it to its double, in equal factors.
        base_sizes: Side of the anchor of scale 1 for each map, input pixels; None: the strides.
        center_offset: Where in its cell the centre lies, as a share of the base size.
        border: Anchors may reach over the image's edge by less than so many pixels to be valid; None is no limit.
        means: Of the deltas.
        stds: Of the deltas.
        wh_ratio_clip: Sizes change by at most its inverse.
        ctr_clamp: Centres move by at most so many pixels; None is no limit.

    Raises:
        ConfigError: Scales are given in both ways or in none, or the base sizes are not one per map.
    """

    def __init__(
        self,
        *,
        strides: Strides[Sequence[int]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        scales: Sequence[float] | None = None,
        octave_base_scale: float | None = None,
        scales_per_octave: int | None = None,
        base_sizes: Sequence[float] | None = None,
        center_offset: float = 0.0,
        border: float | None = None,
        means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        wh_ratio_clip: float = 16 / 1000,
        ctr_clamp: float | None = None,
    ) -> None:
        super().__init__()
        scales = _scales(scales, octave_base_scale, scales_per_octave)
        base_sizes = strides if base_sizes is None else base_sizes
        if len(base_sizes) != len(strides):
            raise ConfigError("base_sizes", f"{len(base_sizes)} for {len(strides)} maps", "Give one per map.")
        if not ratios or not scales or min(*ratios, *scales, *base_sizes) <= 0:
            raise ConfigError(
                "ratios, scales, base_sizes", "not all are lists of positive numbers", "An anchor needs an area."
            )
        self.strides = tuple(strides)
        self.priors_per_cell = len(scales) * len(ratios)
        self.border = border
        self.coder = DeltaXYWHCoder(means=means, stds=stds, wh_ratio_clip=wh_ratio_clip, ctr_clamp=ctr_clamp)
        shapes = (anchor_shapes(base, scales, ratios, center_offset) for base in base_sizes)
        self.shapes = tuple(tuple(map(tuple, level.tolist())) for level in shapes)

    def priors(self, features: Features, batch: Batch) -> Priors:
        """The anchors (P, 4) of the maps; valid inside the padded shape and, with a border, the image."""
        sizes = map_sizes(features, self.strides)
        cells, boxes = _anchors(sizes, self.strides, self.shapes, features[0].device)
        valid = cells.inside(batch.padded)
        if self.border is not None:
            valid = valid & within(boxes, batch.sizes, self.border)
        return Priors(boxes, cells.stride, cells.level, valid, cells.per_level)

    def encode(self, priors: Tensor, stride: Tensor, boxes: Tensor) -> Tensor:
        """(..., 4) anchors, (...) strides, (..., 4) boxes -> (..., 4) normalised deltas."""
        return self.coder.encode(priors, boxes)

    def decode(self, priors: Tensor, stride: Tensor, vectors: Tensor) -> Tensor:
        """(..., 4) anchors, (...) strides, (..., 4) normalised deltas -> (..., 4) boxes, not clipped."""
        return self.coder.decode(priors, vectors)


def within(boxes: Tensor, sizes: Tensor, border: float) -> Tensor:
    """(P, 4) boxes, (B, 2) heights and widths -> (B, P) bool: in the image, or over its edge by less than ``border``.

    At the left and top a box may reach exactly as far as the border.
    """
    low = (boxes[:, :2] >= -border).all(-1)
    high = (boxes[:, 2:] < sizes.flip(-1)[:, None] + border).all(-1)
    return low & high


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _anchors(sizes: Sizes, strides: tuple[int, ...], shapes: Shapes, device: torch.device) -> tuple[Grid, Tensor]:
    """The cells of the maps and the anchors (P, 4) on them; made once per sizes and device."""
    with torch.inference_mode(False):  # what is kept must serve training as well
        return _kept_anchors(sizes, strides, shapes, device)


@lru_cache(maxsize=32)
def _kept_anchors(sizes: Sizes, strides: tuple[int, ...], shapes: Shapes, device: torch.device) -> tuple[Grid, Tensor]:
    cells = grid(sizes, strides, len(shapes[0]), device)
    offsets = [
        torch.tensor(level, device=device).repeat(height * width, 1)
        for level, (height, width) in zip(shapes, sizes, strict=True)
    ]
    return cells, torch.cat(offsets) + cells.corner.repeat(1, 2)


def _scales(
    scales: Sequence[float] | None, octave_base_scale: float | None, scales_per_octave: int | None
) -> Sequence[float]:
    if scales is not None and octave_base_scale is None and scales_per_octave is None:
        return scales
    if scales is None and octave_base_scale is not None and scales_per_octave is not None:
        return [octave_base_scale * 2 ** (step / scales_per_octave) for step in range(scales_per_octave)]
    raise ConfigError(
        "scales", "not given in exactly one way", "Give scales, or octave_base_scale and scales_per_octave."
    )
