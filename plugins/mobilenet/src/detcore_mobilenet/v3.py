"""Searching for MobileNetV3 (Howard et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

from detcore.errors import ConfigError
from detcore.interfaces import Factory, Norm
from detcore.layers import BN
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from detcore_mobilenet.mobilenet import Layer, MobileNet, rounded

Size = Literal["small", "large"]
Row = tuple[int, int, int, bool, type[nn.Module], int]

RE, HS = nn.ReLU, nn.Hardswish
ROWS: Mapping[Size, Sequence[Row]] = {
    "large": (
        (3, 16, 16, False, RE, 1),
        (3, 64, 24, False, RE, 2),
        (3, 72, 24, False, RE, 1),
        (5, 72, 40, True, RE, 2),
        (5, 120, 40, True, RE, 1),
        (5, 120, 40, True, RE, 1),
        (3, 240, 80, False, HS, 2),
        (3, 200, 80, False, HS, 1),
        (3, 184, 80, False, HS, 1),
        (3, 184, 80, False, HS, 1),
        (3, 480, 112, True, HS, 1),
        (3, 672, 112, True, HS, 1),
        (5, 672, 160, True, HS, 2),
        (5, 960, 160, True, HS, 1),
        (5, 960, 160, True, HS, 1),
    ),
    "small": (
        (3, 16, 16, True, RE, 2),
        (3, 72, 24, False, RE, 2),
        (3, 88, 24, False, RE, 1),
        (5, 96, 40, True, HS, 2),
        (5, 240, 40, True, HS, 1),
        (5, 240, 40, True, HS, 1),
        (5, 120, 48, True, HS, 1),
        (5, 144, 48, True, HS, 1),
        (5, 288, 96, True, HS, 2),
        (5, 576, 96, True, HS, 1),
        (5, 576, 96, True, HS, 1),
    ),
}
"""Tables 1 and 2: kernel, channels within and after the block, squeeze and excitation, activation, stride."""
STEM = 16
NORM = partial(BN, eps=1e-3, momentum=0.01)


class Bneck(nn.Module):
    """1x1 to more channels, a convolution on each, squeeze and excitation, 1x1 back (figure 4).

    Args:
        in_channels: Of the map that comes in.
        row: Of the table, with the channels as they are to be.
        norm: Builds the norms.
    """

    def __init__(self, in_channels: int, row: Row, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        kernel, wide, out_channels, excites, act, stride = row
        self.adds = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if wide != in_channels:
            layers.append(Conv2dNormActivation(in_channels, wide, 1, norm_layer=norm, activation_layer=act))
        layers.append(
            Conv2dNormActivation(wide, wide, kernel, stride, groups=wide, norm_layer=norm, activation_layer=act)
        )
        if excites:
            layers.append(SqueezeExcitation(wide, rounded(wide // 4), scale_activation=nn.Hardsigmoid))
        layers.append(Conv2dNormActivation(wide, out_channels, 1, norm_layer=norm, activation_layer=None))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride), rounded up."""
        out: Tensor = self.block(x)
        return x + out if self.adds else out


class MobileNetV3(MobileNet):
    """A stem, the blocks of table 1 or 2, and a last 1x1 convolution.

    Args:
        size: "large" (table 1) or "small" (table 2).
        width: Factor of all channels; they are rounded to multiples of 8.
        out_indices: The maps that are returned, of stride 4, 8, 16 and 32, from 0; no layer after the last is built.
        frozen_stages: -1: everything trains; 0: the stem does not; n: nothing up to the n-th of the four maps does.
        norm: Builds the norms.
        norm_eval: Batch normalisation keeps its running statistics while training.

    Raises:
        ConfigError: A size or map that is not there.
    """

    def __init__(
        self,
        *,
        size: Size = "large",
        width: float = 1.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm: Factory[Norm] = NORM,  # type: ignore[assignment]
        norm_eval: bool = False,
    ) -> None:
        if size not in ROWS:
            raise ConfigError("size", f"there is no {size!r} MobileNetV3", 'Give "small" or "large".')
        super().__init__(list(_layers(ROWS[size], width, norm)), out_indices, frozen_stages, norm_eval)


def _layers(rows: Sequence[Row], width: float, norm: Callable[[int], nn.Module]) -> Iterator[Layer]:
    channels = rounded(STEM * width)
    yield Layer(Conv2dNormActivation(3, channels, 3, 2, norm_layer=norm, activation_layer=HS), channels, 2)
    for kernel, wide, base, excites, act, stride in rows:
        out = rounded(base * width)
        row = (kernel, rounded(wide * width), out, excites, act, stride)
        yield Layer(Bneck(channels, row, norm), out, stride)
        channels = out
    yield Layer(Conv2dNormActivation(channels, 6 * channels, 1, norm_layer=norm, activation_layer=HS), 6 * channels)
