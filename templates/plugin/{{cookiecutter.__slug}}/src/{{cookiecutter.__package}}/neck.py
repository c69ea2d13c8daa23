"""A way down with weighted sums (Tan et al. 2020, EfficientDet, section 3.3: fast normalized fusion)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Channels, Factory, Features, Neck, Norm, Strides
from detcore.layers import ConvNormAct
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-4
"""Added to the sum of two weights, as in the paper."""


class {{ cookiecutter.__class }}Neck(Neck):
    """Each map, by a 1x1 convolution, and the deeper one, upsampled, are added with weights that are learnt.

    A parameter annotated ``Channels`` or ``Strides`` is filled by the build, with what the backbone declares.

    Args:
        in_channels: Of each map that comes in.
        strides: Of each map that comes in, and goes out.
        out_channels: Of every map that goes out.
        norm: Builds the norms; None: none, and the convolutions have a bias.

    Raises:
        ConfigError: Fewer than one channel.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        strides: Strides[Sequence[int]],
        out_channels: int = 64,
        norm: Factory[Norm] | None = None,
    ) -> None:
        super().__init__()
        if out_channels < 1:
            raise ConfigError("out_channels", f"{out_channels}", "Give 1 or more.")
        self.lateral = nn.ModuleList(
            ConvNormAct(channels, out_channels, 1, norm=norm, act=None) for channels in in_channels
        )
        self.weights = nn.ParameterList(torch.ones(2) for _ in in_channels[1:])
        self.out_channels = (out_channels,) * len(in_channels)
        self.strides = tuple(strides)

    def forward(self, features: Features) -> Features:
        """L maps (B, C_l, H_l, W_l) -> L maps (B, out_channels, H_l, W_l)."""
        maps: list[Tensor] = [lateral(each) for lateral, each in zip(self.lateral, features, strict=True)]
        for level in range(len(maps) - 2, -1, -1):
            own, deeper = self.weights[level].relu()
            above = F.interpolate(maps[level + 1], size=maps[level].shape[-2:], mode="nearest")
            maps[level] = (own * maps[level] + deeper * above) / (own + deeper + EPS)
        return maps
