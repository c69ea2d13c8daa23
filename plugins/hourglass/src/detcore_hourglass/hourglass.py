"""Stacked hourglasses (Newell et al. 2016) as CornerNet changed them (Law and Deng 2018, section 3.5).

An hourglass goes down by strided residual blocks and up by nearest-neighbour interpolation, adding on each scale what a
pair of residual blocks carried past it. Each stack refines the map of the one before; all of them are supervised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Factory, Features, Norm
from detcore.layers import BN, ConvNormAct
from torch import Tensor, nn

NormFactory = Factory[Norm] | Callable[[int], nn.Module]


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where size or channels change."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm: NormFactory = BN) -> None:
        super().__init__()
        same = stride == 1 and in_channels == out_channels
        self.conv1 = ConvNormAct(in_channels, out_channels, 3, stride=stride, norm=norm)
        self.conv2 = ConvNormAct(out_channels, out_channels, 3, norm=norm, act=None)
        self.shortcut = nn.Identity() if same else _projection(in_channels, out_channels, norm, stride=stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        x = self.act(self.conv2(self.conv1(x)) + self.shortcut(x))
        return x


class HourglassModule(nn.Module):
    """One hourglass: a scale, and within it the hourglass of the scales below.

    Args:
        channels: Of the map on each scale, finest first; at least two scales.
        blocks: Residual blocks on each scale.
        norm: Builds the norms.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int], *, norm: NormFactory = BN) -> None:
        super().__init__()
        here, below, count = channels[0], channels[1], blocks[0]
        self.skip = nn.Sequential(*(Residual(here, here, norm=norm) for _ in range(count)))
        self.down = nn.Sequential(
            Residual(here, below, stride=2, norm=norm), *(Residual(below, below, norm=norm) for _ in range(count - 1))
        )
        self.inner = (
            HourglassModule(channels[1:], blocks[1:], norm=norm)
            if len(channels) > 2
            else nn.Sequential(*(Residual(below, below, norm=norm) for _ in range(blocks[1])))
        )
        self.up = nn.Sequential(
            *(Residual(below, below, norm=norm) for _ in range(count - 1)), Residual(below, here, norm=norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels[0], H, W) -> the same shape."""
        skip: Tensor = self.skip(x)
        deep = self.up(self.inner(self.down(x)))
        return skip + nn.functional.interpolate(deep, size=skip.shape[2:], mode="nearest")


class Hourglass(Backbone):
    """HourglassNet; the defaults are HourglassNet-104 (Law and Deng 2018).

    The maps it returns are those of the stacks, first to last, all of stride 4: they are no pyramid.

    Args:
        downsample_times: How often each hourglass halves its map.
        num_stacks: How many hourglasses follow one another.
        stage_channels: Channels on each scale of an hourglass, finest first, ``downsample_times + 1`` of them.
        stage_blocks: Residual blocks on each scale, as many.
        stem_channels: Of the first convolution.
        norm: Builds the norms.

    Raises:
        ConfigError: The lengths do not fit together, or a number is below 1.
    """

    def __init__(
        self,
        *,
        downsample_times: int = 5,
        num_stacks: int = 2,
        stage_channels: Sequence[int] = (256, 256, 384, 384, 384, 512),
        stage_blocks: Sequence[int] = (2, 2, 2, 2, 2, 4),
        stem_channels: int = 128,
        norm: Factory[Norm] | Callable[[int], nn.Module] = BN,
    ) -> None:
        super().__init__()
        _check(downsample_times, num_stacks, stage_channels, stage_blocks)
        width = stage_channels[0]
        self.out_channels = (width,) * num_stacks
        self.strides = (4,) * num_stacks
        self.stem = nn.Sequential(
            ConvNormAct(3, stem_channels, 7, stride=2, norm=norm), Residual(stem_channels, width, stride=2, norm=norm)
        )
        self.hourglasses = nn.ModuleList(
            HourglassModule(stage_channels, stage_blocks, norm=norm) for _ in range(num_stacks)
        )
        self.outputs = nn.ModuleList(ConvNormAct(width, width, 3, norm=norm) for _ in range(num_stacks))
        self.merge_input = nn.ModuleList(_projection(width, width, norm) for _ in range(num_stacks - 1))
        self.merge_output = nn.ModuleList(_projection(width, width, norm) for _ in range(num_stacks - 1))
        self.between = nn.ModuleList(Residual(width, width, norm=norm) for _ in range(num_stacks - 1))

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> per stack (B, stage_channels[0], ceil(H / 4), ceil(W / 4))."""
        x = self.stem(images)
        maps = [self.outputs[0](self.hourglasses[0](x))]
        for stack, between in enumerate(self.between):
            x = between((self.merge_input[stack](x) + self.merge_output[stack](maps[-1])).relu())
            maps.append(self.outputs[stack + 1](self.hourglasses[stack + 1](x)))
        return maps


def _projection(in_channels: int, out_channels: int, norm: NormFactory, stride: int = 1) -> ConvNormAct:
    return ConvNormAct(in_channels, out_channels, 1, stride=stride, norm=norm, act=None)


def _check(downsample_times: int, num_stacks: int, channels: Sequence[int], blocks: Sequence[int]) -> None:
    if min(downsample_times, num_stacks, *channels, *blocks) < 1:
        raise ConfigError("", "a number below 1", "All numbers of an hourglass are counts of at least 1.")
    for name, values in {"stage_channels": channels, "stage_blocks": blocks}.items():
        if len(values) != downsample_times + 1:
            raise ConfigError(
                "",
                f"{len(values)} {name} for downsample_times = {downsample_times}",
                f"Give {downsample_times + 1}: one per scale, finest first.",
            )
