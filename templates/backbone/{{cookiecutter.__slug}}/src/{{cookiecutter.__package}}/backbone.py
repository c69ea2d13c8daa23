"""A small residual network (He et al. 2016, Deep Residual Learning, section 3.3, with one block a stage)."""

from __future__ import annotations

from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Factory, Features, Norm
from detcore.layers import BN, ConvNormAct
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions, added to what they read.

    Args:
        channels: Of the map that comes in and goes out.
        norm: Builds the norms; None: batch normalisation.
    """

    def __init__(self, channels: int, norm: Factory[Norm] | None) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, 3, norm=norm or BN)
        self.conv2 = ConvNormAct(channels, channels, 3, norm=norm or BN, act=None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        out: Tensor = (x + self.conv2(self.conv1(x))).relu()
        return out


class {{ cookiecutter.__class }}(Backbone):
    """Four maps; each has twice the channels and half the size of the one before.

    The build asks a backbone for its attributes ``out_channels`` and ``strides``, and tells them to the neck.

    Args:
        width: Channels of the first map.
        blocks: Residual blocks of each stage.
        norm: Builds the norms; None: batch normalisation.

    Raises:
        ConfigError: A width below 1, or a negative number of blocks.
    """

    def __init__(self, *, width: int = 32, blocks: int = 1, norm: Factory[Norm] | None = None) -> None:
        super().__init__()
        if width < 1 or blocks < 0:
            raise ConfigError("width, blocks", f"{width} and {blocks}", "Give at least 1 and at least 0.")
        self.out_channels = tuple(width * 2**stage for stage in range(4))
        self.strides = (4, 8, 16, 32)
        self.stem = ConvNormAct(3, width, 3, stride=2, norm=norm or BN)
        channels = [width, *self.out_channels]
        self.stages = nn.ModuleList(
            nn.Sequential(
                ConvNormAct(channels[stage], channels[stage + 1], 3, stride=2, norm=norm or BN),
                *(Block(channels[stage + 1], norm) for _ in range(blocks)),
            )
            for stage in range(4)
        )

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> four maps (B, C_l, H_l, W_l) with H_l = ceil(H / stride_l)."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
