"""RoIAlign (He et al. 2017, Mask R-CNN, section 3) on the level of a pyramid that suits a region's size."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Cuts each region out of one level.

    Every level sees all regions, those of other levels as empty ones, and the sum is taken: nothing depends on how many
    regions a level has, and a level without any still has a gradient (zeros).

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
        nowhere = torch.cat([rois[:, :1], torch.full_like(rois[:, 1:], NOWHERE)], 1)
        cut = [
            self._align(maps, torch.where((level_of_roi == level)[:, None], rois, nowhere), 1 / self.strides[level])
            for level, maps in enumerate(features)
        ]
        return torch.stack(cut).sum(0) if len(cut) > 1 else cut[0]

    def _align(self, maps: Tensor, rois: Tensor, scale: float) -> Tensor:
        return align(maps, rois, self.roi_size, scale, sampling_ratio=self.sampling_ratio, aligned=self.aligned)


def align(maps: Tensor, rois: Tensor, size: int, scale: float, *, sampling_ratio: int, aligned: bool) -> Tensor:
    """RoIAlign of one level, of ``scale`` cells a pixel, in the precision of the regions: half a pixel matters."""
    cut: Tensor = roi_align(maps.to(rois.dtype), rois, size, scale, sampling_ratio, aligned)
    return cut.to(maps.dtype)
