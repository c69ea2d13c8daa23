"""RoIAlign (He et al. 2017, Mask R-CNN, section 3) on the level of a pyramid that suits a region's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Channels, Features, RoIExtractor, Strides
from torch import Tensor
from torchvision.ops import roi_align

NOWHERE = -1e6
"""Coordinate of an empty region far outside of any map: RoIAlign cuts out zeros, with next to no work."""


def levels_of(rois: Tensor, levels: int, finest_scale: float) -> Tensor:
    """RoIs (R, 5) -> (R,) int64, the level of each (Lin et al. 2017, Feature Pyramid Networks, equation 1).

    Args:
        rois: Image, x1, y1, x2, y2.
        levels: How many there are; larger regions are cut from the deepest.
        finest_scale: Regions of up to twice this side, input pixels, are cut from level 0.
    """
    side = (rois[:, 3:5] - rois[:, 1:3]).clamp(min=0).prod(1).sqrt()
    return (side / finest_scale + 1e-6).log2().floor().clamp(0, levels - 1).long()


def scale_rois(rois: Tensor, scale: float) -> Tensor:
    """RoIs (R, 5) with width and height multiplied by ``scale`` about their centre."""
    if scale == 1.0:
        return rois
    centre = (rois[:, 1:3] + rois[:, 3:5]) / 2
    half = (rois[:, 3:5] - rois[:, 1:3]) * (scale / 2)
    return torch.cat([rois[:, :1], centre - half, centre + half], 1)


class SingleLevelRoIExtractor(RoIExtractor):
    """Cuts each region out of one level; a level without any still has a gradient (zeros).

    Where it would have to wait for a device to say how many regions a level has, and in compiled graphs, every level
    sees all regions, those of other levels as empty ones, and the sum is taken.

    Args:
        in_channels: Of every map.
        strides: Input pixels per cell of each map.
        roi_size: S, side of what is cut out.
        finest_scale: Regions of up to twice this side, input pixels, are cut from the shallowest level.
        sampling_ratio: Points per side of a bin; 0: one per cell that the bin covers.
        aligned: Values of a map lie in the middle of their cells; else in the upper left corner, and regions are at
            least one cell wide and high (RoIAlign as it was at first; torchvision's detectors).

    Raises:
        ConfigError: No level, a size that is not positive, or (when called) more or fewer maps than strides.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[int],
        strides: Strides[Sequence[int]],
        roi_size: int = 7,
        finest_scale: float = 56.0,
        sampling_ratio: int = 0,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        if not strides:
            raise ConfigError("strides", "is empty", "Regions are cut out of one level at least: see num_levels.")
        if roi_size < 1 or finest_scale <= 0:
            found = f"{roi_size} and {finest_scale}"
            raise ConfigError("roi_size, finest_scale", found, "Give positive numbers.")
        self.out_channels = in_channels
        self.strides = tuple(strides)
        self.roi_size = roi_size
        self.finest_scale = finest_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, features: Features, rois: Tensor, scale: float = 1.0) -> Tensor:
        """L maps (B, C, H_l, W_l) and RoIs (R, 5) -> (R, C, S, S)."""
        if len(features) != len(self.strides):
            found = f"{len(self.strides)} for {len(features)} maps"
            raise ConfigError("strides", found, "Give one per map.")
        level_of_roi = levels_of(rois, len(features), self.finest_scale)
        rois = scale_rois(rois, scale)
        if rois.device.type == "cpu" and not torch.compiler.is_compiling():
            return self._level_by_level(features, rois, level_of_roi)
        return self._all_from_all(features, rois, level_of_roi)

    def _level_by_level(self, features: Features, rois: Tensor, level_of_roi: Tensor) -> Tensor:
        order = level_of_roi.argsort(stable=True)
        counts = torch.bincount(level_of_roi, minlength=len(features)).tolist()
        of_levels = torch.split(rois[order], counts)
        cut = [self._align(features[level], some, level) for level, some in enumerate(of_levels)]
        placed: Tensor = _Placed.apply(order, *cut)
        return placed

    def _all_from_all(self, features: Features, rois: Tensor, level_of_roi: Tensor) -> Tensor:
        nowhere = torch.cat([rois[:, :1], torch.full_like(rois[:, 1:], NOWHERE)], 1)
        cut = [
            self._align(maps, torch.where((level_of_roi == level)[:, None], rois, nowhere), level)
            for level, maps in enumerate(features)
        ]
        return torch.stack(cut).sum(0)

    def _align(self, maps: Tensor, rois: Tensor, level: int) -> Tensor:
        scale = 1 / self.strides[level]
        return align(maps, rois, self.roi_size, scale, sampling_ratio=self.sampling_ratio, aligned=self.aligned)


class _Placed(torch.autograd.Function):
    """Rows of several tensors, one after the other, put at the places (R,) that are said: read and written once.

    Concatenated and indexed they would take twice the time of this, which is that of cutting out some levels.
    """

    @staticmethod
    def forward(ctx: Any, places: Tensor, *parts: Tensor) -> Tensor:
        ctx.places = torch.split(places, [len(part) for part in parts])
        placed = parts[0].new_empty(len(places), *parts[0].shape[1:])
        for its, part in zip(ctx.places, parts, strict=True):
            placed[its] = part
        return placed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(grad[its] for its in ctx.places)


def align(maps: Tensor, rois: Tensor, size: int, scale: float, *, sampling_ratio: int, aligned: bool) -> Tensor:
    """RoIAlign of one level, of ``scale`` cells a pixel, in the precision of the regions: half a pixel matters."""
    cut: Tensor = roi_align(maps.to(rois.dtype), rois, size, scale, sampling_ratio, aligned)
    return cut.to(maps.dtype)
