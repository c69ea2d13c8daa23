"""HRNetV2p, the pyramid of Deep High-Resolution Representation Learning (Wang et al., TPAMI 2020), section 3.4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Activation, Channels, Conv, Factory, Features, Neck, Norm, Strides
from detcore.layers import ConvNormAct
from torch import nn
from torch.nn import functional as F


class HRFPN(Neck):
    """All maps enlarged to the first one's size, joined and reduced by a 1x1 convolution; then pooled to each level.

    Args:
        in_channels: Of each map that comes in.
        in_strides: Of each map that comes in.
        out_channels: Of every map that goes out.
        num_outs: How many maps go out, each half as large as the one before.
        stride: Of the convolution behind each of them; 2 gives levels of stride 8 and more.
        pooling: Of the joined map: the mean of its cells, or their largest value.
        norm: Builds the norms; None: none, and the convolutions have a bias.
        act: Builds the activations; None: none.
        conv: Builds the convolutions.

    Raises:
        ConfigError: No output; a stride below 1.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        in_strides: Strides[Sequence[int]],
        out_channels: int = 256,
        num_outs: int = 5,
        stride: int = 1,
        pooling: Literal["avg", "max"] = "avg",
        norm: Factory[Norm] | None = None,
        act: Factory[Activation] | None = None,
        conv: Factory[Conv] = nn.Conv2d,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        if num_outs < 1:
            raise ConfigError("num_outs", f"{num_outs}", "Give 1 or more.")
        if stride < 1:
            raise ConfigError("stride", f"{stride}", "Give 1 or more.")
        options: dict[str, Any] = {"norm": norm, "act": act, "conv": conv}
        self.reduction_conv = ConvNormAct(sum(in_channels), out_channels, 1, **options)
        self.fpn_convs = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 3, stride=stride, **options) for _ in range(num_outs)
        )
        self.pooling = pooling
        self.out_channels = (out_channels,) * num_outs
        self.strides = tuple(in_strides[0] * stride * 2**level for level in range(num_outs))
        for layer in (self.reduction_conv, *self.fpn_convs):
            nn.init.kaiming_uniform_(layer.get_parameter("conv.weight"), a=1)

    def forward(self, features: Features) -> Features:
        """L maps (B, C_l, H_l, W_l) -> ``num_outs`` maps (B, out_channels, H_0 / (stride * 2^l), ...), rounded up."""
        first, *rest = features
        size = first.shape[-2:]
        larger = [F.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in rest]
        joined = self.reduction_conv(torch.cat([first, *larger], dim=1))
        pool = F.avg_pool2d if self.pooling == "avg" else F.max_pool2d
        levels = [joined, *(pool(joined, 2**level, ceil_mode=True) for level in range(1, len(self.fpn_convs)))]
        return [conv(each) for conv, each in zip(self.fpn_convs, levels, strict=True)]
