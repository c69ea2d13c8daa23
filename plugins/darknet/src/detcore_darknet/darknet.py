"""Darknet-53, the backbone of YOLOv3 (Redmon and Farhadi 2018, section 2.4 and table 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from detcore.errors import ConfigError
from detcore.interfaces import Activation, Backbone, Factory, Features, Norm
from detcore.layers import BN, ConvNormAct
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

LEAKY = partial(nn.LeakyReLU, negative_slope=0.1, inplace=True)
"""The activation of Darknet."""
STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Channels and residual blocks of each stage."""
STEM = 32

NormFactory = Factory[Norm] | Callable[[int], nn.Module]
ActFactory = Factory[Activation] | Callable[[], nn.Module]


class ResidualBlock(nn.Module):
    """A 1x1 convolution to half of the channels, a 3x3 one back, and a shortcut around both.

    Args:
        channels: Of the map that comes in and of that which goes out.
        norm: Builds the norms.
        act: Builds the activations.
    """

    def __init__(self, channels: int, *, norm: NormFactory = BN, act: ActFactory = LEAKY) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels // 2, 1, norm=norm, act=act)
        self.conv2 = ConvNormAct(channels // 2, channels, 3, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        out: Tensor = x + self.conv2(self.conv1(x))
        return out


class Darknet(Backbone):
    """The first convolution and five stages, of strides 1, 2, 4, 8, 16 and 32.

    Args:
        out_indices: The stages whose maps are returned, shallow to deep; 0 is the first convolution. None is built
            after the last.
        frozen_stages: -1: everything trains; 0: the first convolution does not; n: it and the first n stages do not.
        norm: Builds the norms.
        norm_eval: Batch normalisation keeps its running statistics while training.
        act: Builds the activations.
        width: Multiplies the channels; 1 is Darknet-53.

    Raises:
        ConfigError: Stages that are not there, a width that leaves no channels.
    """

    def __init__(
        self,
        *,
        out_indices: Sequence[int] = (3, 4, 5),
        frozen_stages: int = -1,
        norm: Factory[Norm] = BN,  # type: ignore[assignment]
        norm_eval: bool = True,
        act: Factory[Activation] = LEAKY,  # type: ignore[assignment]
        width: float = 1.0,
    ) -> None:
        super().__init__()
        widths = [int(channels * width) for channels in (STEM, *(channels for channels, _ in STAGES))]
        _check(out_indices, frozen_stages, width, widths[0])
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.num_stages = max(out_indices)
        self.stem = ConvNormAct(3, widths[0], 3, norm=norm, act=act)
        for stage in range(1, self.num_stages + 1):
            half = ConvNormAct(widths[stage - 1], widths[stage], 3, stride=2, norm=norm, act=act)
            blocks = (ResidualBlock(widths[stage], norm=norm, act=act) for _ in range(STAGES[stage - 1][1]))
            self.add_module(f"stage{stage}", nn.Sequential(half, *blocks))
        self.out_channels = tuple(widths[index] for index in self.out_indices)
        self.strides = tuple(2**index for index in self.out_indices)
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> the maps (B, C_l, H_l, W_l) of ``out_indices``, sides divided by the stride, rounded up."""
        x, maps = images, []
        for index, layer in enumerate(self._layers()):
            x = layer(x)
            if index in self.out_indices:
                maps.append(x)
        return maps

    def train(self, mode: bool = True) -> Darknet:
        """As any module, except that frozen stages and, with ``norm_eval``, statistics stay as they are."""
        super().train(mode)
        for layer in list(self._layers())[: self.frozen_stages + 1]:
            layer.eval().requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _layers(self) -> Iterator[nn.Module]:
        yield self.stem
        for stage in range(1, self.num_stages + 1):
            yield self.get_submodule(f"stage{stage}")


def _check(out_indices: Sequence[int], frozen_stages: int, width: float, least: int) -> None:
    stages = len(STAGES)
    rising = list(out_indices) == sorted({*out_indices})
    if not out_indices or not rising or out_indices[0] < 0 or out_indices[-1] > stages:
        fix = f"Give stages from 0 (the first convolution) to {stages}, each once, in rising order."
        raise ConfigError("out_indices", f"{list(out_indices)}", fix)
    if not -1 <= frozen_stages <= stages:
        raise ConfigError("frozen_stages", f"{frozen_stages}", f"Give -1 (none) to {stages} (all).")
    if least < 2:
        raise ConfigError("width", f"{width} leaves {least} channels", f"Give at least {2 / STEM}.")
