"""CSPDarknet, the backbone of YOLOX (Ge, Liu, Wang, Li and Sun 2021, section 2; after YOLOv5).

Darknet-53 (Redmon and Farhadi 2018) whose stages are cross stage partial (Wang et al. 2020, CSPNet): half of a stage's
channels goes through its bottlenecks, the other half around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import attrs
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Activation, Backbone, Factory, Features, Norm
from detcore.layers import BN, ConvNormAct
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

YOLO_BN = partial(BN, eps=1e-3, momentum=0.03)
"""Batch normalisation with the constants of YOLOX."""
STAGES = {
    "P5": ((128, 3), (256, 9), (512, 9), (1024, 3)),
    "P6": ((128, 3), (256, 9), (512, 9), (768, 3), (1024, 3)),
}
"""Per architecture the channels and bottlenecks of each stage, before they are scaled."""
STEM = 64


# --------------------------------------------------------------------------------------------------------- the blocks


@attrs.frozen
class Blocks:
    """How the convolutions of a network are made.

    Attributes:
        norm: Builds the norms; None: none.
        act: Builds the activations; None: none.
        depthwise: Convolutions larger than 1x1 are a depthwise one and then a 1x1 one (YOLOX-Nano).
    """

    norm: Factory[Norm] | Callable[[int], nn.Module] | None = YOLO_BN
    act: Factory[Activation] | Callable[[], nn.Module] | None = nn.SiLU
    depthwise: bool = False

    def conv(self, in_channels: int, out_channels: int, kernel_size: int = 1, *, groups: int = 1) -> nn.Module:
        """Convolution, norm, activation, never depthwise."""
        return ConvNormAct(in_channels, out_channels, kernel_size, norm=self.norm, act=self.act, groups=groups)

    def spatial(self, in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Module:
        """Convolution 3x3, norm, activation; in two steps where they are depthwise."""
        if not self.depthwise:
            return ConvNormAct(in_channels, out_channels, 3, norm=self.norm, act=self.act, stride=stride)
        each = ConvNormAct(in_channels, in_channels, 3, norm=self.norm, act=self.act, stride=stride, groups=in_channels)
        return nn.Sequential(each, self.conv(in_channels, out_channels))


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution, beside a shortcut or not.

    Args:
        channels: Of the map that comes in and of that which goes out.
        blocks: How convolutions are made.
        shortcut: Whether what comes in is added to what goes out.
    """

    def __init__(self, channels: int, *, blocks: Blocks, shortcut: bool = True) -> None:
        super().__init__()
        self.conv1 = blocks.conv(channels, channels)
        self.conv2 = blocks.spatial(channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.shortcut else out


class CSPLayer(nn.Module):
    """One half through bottlenecks, one half around them, and a 1x1 convolution over both (CSPNet, figure 2).

    Args:
        in_channels: Of the map that comes in.
        out_channels: Of the map that goes out; a half has half of them.
        num_blocks: How many bottlenecks.
        blocks: How convolutions are made.
        shortcut: Whether the bottlenecks have shortcuts.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, num_blocks: int, blocks: Blocks, shortcut: bool = True
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.main_conv = blocks.conv(in_channels, half)
        self.short_conv = blocks.conv(in_channels, half)
        self.final_conv = blocks.conv(2 * half, out_channels)
        self.blocks = nn.Sequential(*(Bottleneck(half, blocks=blocks, shortcut=shortcut) for _ in range(num_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        out: Tensor = self.final_conv(torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1))
        return out


class SPP(nn.Module):
    """Spatial pyramid pooling (He et al. 2014; Redmon and Farhadi): the map beside its maxima over larger windows.

    Args:
        channels: Of the map that comes in and of that which goes out.
        blocks: How convolutions are made.
        kernel_sizes: Sides of the windows, odd.
    """

    def __init__(self, channels: int, *, blocks: Blocks, kernel_sizes: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = blocks.conv(channels, half)
        self.conv2 = blocks.conv(half * (len(kernel_sizes) + 1), channels)
        self.kernel_sizes = tuple(kernel_sizes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = self.conv1(x)
        pooled = [F.max_pool2d(x, size, stride=1, padding=size // 2) for size in self.kernel_sizes]
        out: Tensor = self.conv2(torch.cat([x, *pooled], 1))
        return out


def space_to_depth(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 4 * C, H / 2, W / 2), rounded up: the four pixels of a square, column by column.

    A missing last row or column is zeros.
    """
    images = F.pad(images, (0, images.shape[-1] % 2, 0, images.shape[-2] % 2))
    left, right = images[..., ::2], images[..., 1::2]
    return torch.cat([each[..., row::2, :] for each in (left, right) for row in (0, 1)], 1)


# ------------------------------------------------------------------------------------------------------- the backbone


class CSPDarknet(Backbone):
    """The stem and four ("P5") or five ("P6") stages, of strides 2, 4, 8, 16, 32 (and 64).

    Args:
        arch: Channels and depths of the stages.
        deepen_factor: Multiplies the bottlenecks of each stage; at least one is left.
        widen_factor: Multiplies the channels. YOLOX-S: deepen 0.33, widen 0.5; M: 0.67, 0.75; L: 1, 1; X: 1.33, 1.25.
        out_indices: The stages whose maps are returned, shallow to deep; 0 is the stem. None is built after the last.
        frozen_stages: -1: everything trains; 0: the stem does not; n: the stem and the first n stages do not.
        norm: Builds the norms.
        norm_eval: Batch normalisation keeps its running statistics while training.
        act: Builds the activations.
        depthwise: Convolutions larger than 1x1 are a depthwise one and a 1x1 one.
        spp_kernel_sizes: Windows of the pooling in the last stage of the architecture.

    Raises:
        ConfigError: Stages that are not there, a factor that leaves no channels, a window with an even side.
    """

    def __init__(
        self,
        *,
        arch: Literal["P5", "P6"] = "P5",
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        norm: Factory[Norm] = YOLO_BN,  # type: ignore[assignment]
        norm_eval: bool = False,
        act: Factory[Activation] = nn.SiLU,  # type: ignore[assignment]
        depthwise: bool = False,
        spp_kernel_sizes: Sequence[int] = (5, 9, 13),
    ) -> None:
        super().__init__()
        stages = _stages(arch)
        _check(len(stages), out_indices, frozen_stages, spp_kernel_sizes)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.num_stages = max(out_indices)
        widths = [int(width * widen_factor) for width in (STEM, *(width for width, _ in stages))]
        if min(widths) < 2:
            raise ConfigError("widen_factor", f"{widen_factor} leaves {min(widths)} channels", "Give at least 0.04.")

        blocks = Blocks(norm, act, depthwise)
        self.stem = blocks.conv(12, widths[0], 3)
        for stage, (inner, outer) in enumerate(list(pairwise(widths))[: self.num_stages]):
            last, depth = stage == len(stages) - 1, max(round(stages[stage][1] * deepen_factor), 1)
            pool = [SPP(outer, blocks=blocks, kernel_sizes=spp_kernel_sizes)] if last else []
            layer = CSPLayer(outer, outer, num_blocks=depth, blocks=blocks, shortcut=not last)
            self.add_module(f"stage{stage + 1}", nn.Sequential(blocks.spatial(inner, outer, stride=2), *pool, layer))
        self.out_channels = tuple(widths[index] for index in self.out_indices)
        self.strides = tuple(2 ** (index + 1) for index in self.out_indices)
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> the maps (B, C_l, H_l, W_l) of ``out_indices``, sides divided by the stride, rounded up."""
        x, maps = space_to_depth(images), []
        for index, layer in enumerate(self._layers()):
            x = layer(x)
            if index in self.out_indices:
                maps.append(x)
        return maps

    def train(self, mode: bool = True) -> CSPDarknet:
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
        for stage in range(self.num_stages):
            yield self.get_submodule(f"stage{stage + 1}")


def _stages(arch: str) -> Sequence[tuple[int, int]]:
    if arch not in STAGES:
        raise ConfigError("arch", f'there is no "{arch}"', f"It is one of: {', '.join(STAGES)}.")
    return STAGES[arch]


def _check(stages: int, out_indices: Sequence[int], frozen_stages: int, kernel_sizes: Sequence[int]) -> None:
    rising = list(out_indices) == sorted({*out_indices})
    if not out_indices or not rising or out_indices[0] < 0 or out_indices[-1] > stages:
        fix = f"Give stages from 0 (the stem) to {stages}, each once, in rising order."
        raise ConfigError("out_indices", f"{list(out_indices)}", fix)
    if not -1 <= frozen_stages <= stages:
        raise ConfigError("frozen_stages", f"{frozen_stages}", f"Give -1 (none) to {stages} (all).")
    if any(size % 2 == 0 or size < 1 for size in kernel_sizes):
        raise ConfigError("spp_kernel_sizes", f"{list(kernel_sizes)}", "Give odd numbers.")
