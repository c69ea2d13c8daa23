"""Deep High-Resolution Representation Learning for Visual Recognition (Wang et al., TPAMI 2020), section 3.

Parameters are named as in the paper's code, so that its checkpoints and those of the toolboxes after it fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Factory, Features, Norm
from detcore.layers import BN, conv_norm
from detcore_resnet.resnet import BasicBlock, Bottleneck, make_conv, make_stage
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

MakeNorm = Factory[Norm] | Callable[[int], nn.Module]

STEM = 64
"""Channels of the stem and of the first stage's bottlenecks, whatever the width."""


class ConvNorm(nn.Sequential):
    """Convolution and norm (0 and 1), with ``relu`` an activation (2)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, norm: MakeNorm, *, stride: int = 1, relu: bool = True
    ) -> None:
        conv = make_conv(nn.Conv2d, in_channels, out_channels, kernel, stride=stride, padding=kernel // 2)
        super().__init__(conv, norm(out_channels), *[nn.ReLU(inplace=True)] * relu)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride), rounded up."""
        x = conv_norm(self[0], self[1], x)
        return self[2](x) if len(self) > 2 else x


class HighResolutionModule(nn.Module):
    """Blocks on each branch, then every branch receives from all of them (figures 3 and 4).

    Args:
        channels: Of each branch, high to low resolution.
        blocks: Residual blocks of each branch.
        norm: Builds the norms.
    """

    def __init__(self, channels: Sequence[int], blocks: int, norm: MakeNorm) -> None:
        super().__init__()
        self.branches = nn.ModuleList(make_stage(BasicBlock, each, each, blocks, norm=norm) for each in channels)
        branches = range(len(channels))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(channels, source, target, norm) for source in branches) for target in branches
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l) -> maps of the same shapes."""
        maps = [branch(each) for branch, each in zip(self.branches, maps, strict=True)]
        return [self._fused(maps, target) for target in range(len(maps))]

    def _fused(self, maps: Sequence[Tensor], target: int) -> Tensor:
        total, size = maps[target], maps[target].shape[-2:]
        for source, layer in enumerate(self.fuse_layers[target].children()):
            if source < target:
                total = total + layer(maps[source])
            elif source > target:
                total = total + F.interpolate(layer(maps[source]), size=size, mode="nearest")
        return F.relu(total)


class HRNet(Backbone):
    """Branches of stride 4, 8, 16 and 32: each stage adds the next one, and they exchange after every few blocks.

    Args:
        width: Channels of the branch of stride 4, doubled with each further one: 18, 32, 40 or 48 in the paper.
        modules: Exchanges in stage 2, 3 and 4.
        blocks: Residual blocks before each exchange, and bottlenecks of the first stage.
        norm: Builds the norms.
        norm_eval: Batch normalisation keeps its running statistics while training.

    Raises:
        ConfigError: Not three numbers of modules.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        norm: Factory[Norm] = BN,  # type: ignore[assignment]
        norm_eval: bool = True,
    ) -> None:
        super().__init__()
        if len(modules) != 3 or min(modules) < 1:
            raise ConfigError("modules", f"{list(modules)}", "Give one number for each of the stages 2, 3 and 4.")
        self.norm_eval = norm_eval
        self.out_channels = tuple(width * 2**branch for branch in range(4))
        self.strides = (4, 8, 16, 32)

        self.conv1 = make_conv(nn.Conv2d, 3, STEM, 3, stride=2, padding=1)
        self.bn1 = norm(STEM)
        self.conv2 = make_conv(nn.Conv2d, STEM, STEM, 3, stride=2, padding=1)
        self.bn2 = norm(STEM)
        self.layer1 = make_stage(Bottleneck, STEM, STEM, blocks, norm=norm)
        reached: Sequence[int] = (STEM * Bottleneck.expansion,)
        for stage, repeats in enumerate(modules, start=2):
            channels = self.out_channels[:stage]
            exchanges = (HighResolutionModule(channels, blocks, norm) for _ in range(repeats))
            self.add_module(f"transition{stage - 1}", _transition(reached, channels, norm))
            self.add_module(f"stage{stage}", nn.Sequential(*exchanges))
            reached = channels
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> four maps (B, width * 2^l, H / stride_l, W / stride_l), rounded up."""
        x = F.relu(conv_norm(self.conv1, self.bn1, images), inplace=True)
        x = F.relu(conv_norm(self.conv2, self.bn2, x), inplace=True)
        maps = [self.layer1(x)]
        for stage in (2, 3, 4):
            transition = self.get_submodule(f"transition{stage - 1}")
            maps = [layer(maps[min(branch, len(maps) - 1)]) for branch, layer in enumerate(transition.children())]
            maps = self.get_submodule(f"stage{stage}")(maps)
        return maps

    def train(self, mode: bool = True) -> HRNet:
        """As any module, except that statistics stay as they are with ``norm_eval``."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _exchange(channels: Sequence[int], source: int, target: int, norm: MakeNorm) -> nn.Module:
    """From one branch to another: a 1x1 convolution on the way up, 3x3 convolutions of stride 2 on the way down."""
    ins, outs = channels[source], channels[target]
    if source > target:
        return ConvNorm(ins, outs, 1, norm, relu=False)
    steps = [ConvNorm(ins, ins, 3, norm, stride=2) for _ in range(target - source - 1)]
    if source < target:
        steps.append(ConvNorm(ins, outs, 3, norm, stride=2, relu=False))
    return nn.Sequential(*steps)


def _transition(before: Sequence[int], after: Sequence[int], norm: MakeNorm) -> nn.ModuleList:
    """Into the branches of the next stage: the last of them is new, half as large as the one before."""
    layers: list[nn.Module] = [
        nn.Identity() if ins == outs else ConvNorm(ins, outs, 3, norm)
        for ins, outs in zip(before, after[:-1], strict=True)
    ]
    return nn.ModuleList([*layers, nn.Sequential(ConvNorm(before[-1], after[-1], 3, norm, stride=2))])
