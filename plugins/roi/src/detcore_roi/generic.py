"""A Novel Region of Interest Extraction Layer for Instance Segmentation (Rossi et al., ICPR 2020), section 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Channels, Features, RoIExtractor, Strides
from torch import Tensor

from detcore_roi.extractor import align, scale_rois


class GenericRoIExtractor(RoIExtractor):
    """Cuts each region out of every level, and puts what was cut out together.

    Args:
        in_channels: Of each map.
        strides: Input pixels per cell of each map.
        roi_size: S, side of what is cut out.
        aggregation: The sum over levels, or their channels side by side.
        sampling_ratio: Points per side of a bin; 0: one per cell that the bin covers.
        aligned: As of :class:`detcore_roi.extractor.SingleLevelRoIExtractor`.

    Raises:
        ConfigError: No level, a sum of levels with different channels, a size that is not positive, or (when called)
            more or fewer maps than strides.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        strides: Strides[Sequence[int]],
        roi_size: int = 7,
        aggregation: Literal["sum", "concat"] = "sum",
        sampling_ratio: int = 0,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        if not strides or roi_size < 1:
            found = f"{len(strides)} levels, a side of {roi_size}"
            raise ConfigError("strides, roi_size", found, "Regions are cut out of one level at least.")
        if aggregation == "sum" and len({*in_channels}) > 1:
            found = f'"sum" of maps with {list(in_channels)} channels'
            raise ConfigError("aggregation", found, 'Give "concat", or a neck whose maps have equal channels.')
        self.out_channels = in_channels[0] if aggregation == "sum" else sum(in_channels)
        self.strides = tuple(strides)
        self.roi_size = roi_size
        self.aggregation = aggregation
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, features: Features, rois: Tensor, scale: float = 1.0) -> Tensor:
        """L maps (B, C_l, H_l, W_l) and RoIs (R, 5) -> (R, C, S, S)."""
        if len(features) != len(self.strides):
            raise ConfigError("strides", f"{len(self.strides)} for {len(features)} maps", "Give one per map.")
        rois = scale_rois(rois, scale)
        options: dict[str, Any] = {"sampling_ratio": self.sampling_ratio, "aligned": self.aligned}
        cut = [
            align(maps, rois, self.roi_size, 1 / stride, **options)
            for maps, stride in zip(features, self.strides, strict=True)
        ]
        return torch.stack(cut).sum(0) if self.aggregation == "sum" else torch.cat(cut, 1)
