"""What MobileNets of version 2 and 3 share: a row of layers, of which the last of each stride is a map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import attrs
from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Features
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

STRIDES = (4, 8, 16, 32)


@attrs.frozen(eq=False)
class Layer:
    """A layer, and what comes out of it."""

    module: nn.Module
    channels: int
    stride: int = 1


class MobileNet(Backbone):
    """The layers in a row.

    Args:
        layers: The stem first.
        out_indices: The maps that are returned, of stride 4, 8, 16 and 32, from 0; no layer after the last is kept.
        frozen_stages: -1: everything trains; 0: the stem does not; n: nothing up to the n-th of the four maps does.
        norm_eval: Batch normalisation keeps its running statistics while training.

    Raises:
        ConfigError: A map that is not there.
    """

    def __init__(
        self, layers: Sequence[Layer], out_indices: Sequence[int], frozen_stages: int, norm_eval: bool
    ) -> None:
        super().__init__()
        _check(out_indices, frozen_stages)
        reached = list(accumulate((layer.stride for layer in layers), mul))
        ends = [max(at for at, stride in enumerate(reached) if stride == wanted) for wanted in STRIDES]
        self.outputs = tuple(ends[index] for index in out_indices)
        self.frozen = 0 if frozen_stages < 0 else [0, *ends][frozen_stages] + 1
        self.norm_eval = norm_eval
        self.out_channels = tuple(layers[at].channels for at in self.outputs)
        self.strides = tuple(STRIDES[index] for index in out_indices)
        self.features = nn.Sequential(*(layer.module for layer in layers[: self.outputs[-1] + 1]))
        self.apply(_init_conv)
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> the maps (B, C_l, H_l, W_l) of ``out_indices``, sides divided by the stride, rounded up."""
        x, maps = images, []
        for at, layer in enumerate(self.features):
            x = layer(x)
            if at in self.outputs:
                maps.append(x)
        return maps

    def train(self, mode: bool = True) -> MobileNet:
        """As any module, except that frozen layers and, with ``norm_eval``, statistics stay as they are."""
        super().train(mode)
        self.features[: self.frozen].eval().requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def rounded(channels: float) -> int:
    """To a multiple of 8, and not below nine tenths."""
    eights = max(8, int(channels + 4) // 8 * 8)
    return eights + 8 if eights < 0.9 * channels else eights


def _init_conv(module: nn.Module) -> None:
    """Normal weights after He et al. 2015 (fan out), biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check(out_indices: Sequence[int], frozen_stages: int) -> None:
    if not out_indices or list(out_indices) != sorted({*out_indices}) or out_indices[0] < 0 or out_indices[-1] > 3:
        fix = "Give maps from 0 (stride 4) to 3 (stride 32), each once, in rising order."
        raise ConfigError("out_indices", f"{list(out_indices)}", fix)
    if not -1 <= frozen_stages <= 4:
        raise ConfigError("frozen_stages", f"{frozen_stages}", "Give -1 (none) to 4 (all).")
