"""MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., CVPR 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from detcore.interfaces import Factory, Norm
from detcore.layers import BN
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from detcore_mobilenet.mobilenet import Layer, MobileNet, rounded

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2: expansion, channels, blocks, stride of the first of them."""


class InvertedResidual(nn.Module):
    """Wide between narrow: 1x1 to more channels, 3x3 on each, 1x1 back, without an activation (figure 4 (d)).

    Args:
        in_channels: Of the map that comes in.
        out_channels: Of the map that goes out.
        expansion: Of the channels between them.
        stride: Of the 3x3 convolution.
        norm: Builds the norms.
    """

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, stride: int, norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.adds = stride == 1 and in_channels == out_channels
        wide = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers.append(Conv2dNormActivation(in_channels, wide, 1, norm_layer=norm, activation_layer=nn.ReLU6))
        layers += [
            Conv2dNormActivation(wide, wide, 3, stride, groups=wide, norm_layer=norm, activation_layer=nn.ReLU6),
            nn.Conv2d(wide, out_channels, 1, bias=False),
            norm(out_channels),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride), rounded up."""
        out: Tensor = self.conv(x)
        return x + out if self.adds else out


class MobileNetV2(MobileNet):
    """A stem, seventeen blocks and a last 1x1 convolution.

    Args:
        width: Factor of all channels; they are rounded to multiples of 8.
        out_indices: The maps that are returned, of stride 4, 8, 16 and 32, from 0; no layer after the last is built.
        frozen_stages: -1: everything trains; 0: the stem does not; n: nothing up to the n-th of the four maps does.
        norm: Builds the norms.
        norm_eval: Batch normalisation keeps its running statistics while training.

    Raises:
        ConfigError: A map that is not there.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm: Factory[Norm] = BN,  # type: ignore[assignment]
        norm_eval: bool = False,
    ) -> None:
        super().__init__(list(_layers(width, norm)), out_indices, frozen_stages, norm_eval)


def _layers(width: float, norm: Callable[[int], nn.Module]) -> Iterator[Layer]:
    channels, last = rounded(32 * width), rounded(1280 * max(1.0, width))
    yield Layer(Conv2dNormActivation(3, channels, 3, 2, norm_layer=norm, activation_layer=nn.ReLU6), channels, 2)
    for expansion, base, blocks, stride in ROWS:
        for step in (stride, *(1,) * (blocks - 1)):
            out = rounded(base * width)
            yield Layer(InvertedResidual(channels, out, expansion, step, norm), out, step)
            channels = out
    yield Layer(Conv2dNormActivation(channels, last, 1, norm_layer=norm, activation_layer=nn.ReLU6), last)
