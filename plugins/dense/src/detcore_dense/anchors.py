"""Anchors: boxes of several scales and ratios on each cell, predicted boxes relative to them (Ren et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Features, Geometry, Strides
from detcore.structures import Batch, Priors
from torch import Tensor

from detcore_dense.deltas import DeltaXYWHCoder
from detcore_dense.grid import Grid, Sizes, Steps, grid, map_sizes, steps_over

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
        scales_per_octave: how many there are from it to its double, in equal factors; or else
        sizes: for each map the sides of the anchors of ratio 1, input pixels.
        base_sizes: Side of the anchor of scale 1 for each map, input pixels; None: the strides.
        center_offset: Where in its cell the centre lies, as a share of the base size.
        rounded: The corners of the first cell's anchors are rounded to whole pixels (torchvision's detectors).
        spread: Cells share the batch's height and width evenly, rounded down to pixels, rather than being a stride
            apart; they are nearer to each other where a map's side was rounded up (torchvision's detectors).
        border: Anchors may reach over the image's edge by less than so many pixels to be valid; None is no limit.
        means: Of the deltas.
        stds: Of the deltas.
        wh_ratio_clip: Sizes change by at most its inverse.
        ctr_clamp: Centres move by at most so many pixels; None is no limit.

    Raises:
        ConfigError: Scales are given in several ways or in none, or base sizes or sizes are not one per map.
    """

    def __init__(
        self,
        *,
        strides: Strides[Sequence[int]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        scales: Sequence[float] | None = None,
        octave_base_scale: float | None = None,
        scales_per_octave: int | None = None,
        sizes: Sequence[Sequence[float]] | None = None,
        base_sizes: Sequence[float] | None = None,
        center_offset: float = 0.0,
        rounded: bool = False,
        spread: bool = False,
        border: float | None = None,
        means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        wh_ratio_clip: float = 16 / 1000,
        ctr_clamp: float | None = None,
    ) -> None:
        super().__init__()
        base_sizes = strides if base_sizes is None else base_sizes
        if len(base_sizes) != len(strides):
            raise ConfigError("base_sizes", f"{len(base_sizes)} for {len(strides)} maps", "Give one per map.")
        of_levels = _scales_of_levels(scales, octave_base_scale, scales_per_octave, sizes, base_sizes)
        if not ratios or not of_levels[0] or min(*ratios, *chain(*of_levels), *base_sizes) <= 0:
            raise ConfigError(
                "ratios, scales, base_sizes", "not all are lists of positive numbers", "An anchor needs an area."
            )
        self.strides = tuple(strides)
        self.priors_per_cell = len(of_levels[0]) * len(ratios)
        self.border = border
        self.spread = spread
        self.coder = DeltaXYWHCoder(means=means, stds=stds, wh_ratio_clip=wh_ratio_clip, ctr_clamp=ctr_clamp)
        pairs = zip(base_sizes, of_levels, strict=True)
        shapes = [anchor_shapes(base, each, ratios, center_offset) for base, each in pairs]
        shapes = [level.round() for level in shapes] if rounded else shapes
        self.shapes = tuple(tuple(map(tuple, level.tolist())) for level in shapes)

    def priors(self, features: Features, batch: Batch) -> Priors:
        """The anchors (P, 4) of the maps; valid inside the padded shape and, with a border, the image."""
        sizes = map_sizes(features, self.strides)
        steps = steps_over(batch.images, sizes) if self.spread else None
        cells, boxes = _anchors(sizes, self.strides, self.shapes, features[0].device, steps)
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


def _anchors(
    sizes: Sizes, strides: tuple[int, ...], shapes: Shapes, device: torch.device, steps: Steps | None
) -> tuple[Grid, Tensor]:
    """The cells of the maps and the anchors (P, 4) on them; as :func:`detcore_dense.grid.grid` keeps or makes them."""
    if torch.compiler.is_compiling():
        return _make_anchors(sizes, strides, shapes, device, steps)
    with torch.inference_mode(False):  # what is kept must serve training as well
        return _kept_anchors(sizes, strides, shapes, device, steps)


def _make_anchors(
    sizes: Sizes, strides: tuple[int, ...], shapes: Shapes, device: torch.device, steps: Steps | None
) -> tuple[Grid, Tensor]:
    cells = grid(sizes, strides, len(shapes[0]), device, steps)
    offsets = [
        _on_device(level, device).repeat(height * width, 1)
        for level, (height, width) in zip(shapes, sizes, strict=True)
    ]
    return cells, torch.cat(offsets) + cells.corner.repeat(1, 2)


_kept_anchors = lru_cache(maxsize=32)(_make_anchors)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a graph would wait for it at each step
def _on_device(level: Sequence[Sequence[float]], device: torch.device) -> Tensor:
    return torch.tensor(level, device=device)


def _scales_of_levels(
    scales: Sequence[float] | None,
    octave_base_scale: float | None,
    scales_per_octave: int | None,
    sizes: Sequence[Sequence[float]] | None,
    base_sizes: Sequence[float],
) -> Sequence[Sequence[float]]:
    given = [each is not None for each in (scales, octave_base_scale, scales_per_octave, sizes)]
    if scales is not None and sum(given) == 1:
        return [scales] * len(base_sizes)
    if octave_base_scale is not None and scales_per_octave is not None and sum(given) == 2:
        octave = [octave_base_scale * 2 ** (step / scales_per_octave) for step in range(scales_per_octave)]
        return [octave] * len(base_sizes)
    if sizes is not None and sum(given) == 1:
        if len(sizes) != len(base_sizes) or len({len(level) for level in sizes}) != 1:
            found = f"{len(sizes)} lists for {len(base_sizes)} maps, or lists of different lengths"
            raise ConfigError("sizes", found, "Give a list for each map, all of as many sides.")
        return [[side / base for side in level] for level, base in zip(sizes, base_sizes, strict=True)]
    fix = "Give scales, or octave_base_scale and scales_per_octave, or sizes."
    raise ConfigError("scales", "not given in exactly one way", fix)
