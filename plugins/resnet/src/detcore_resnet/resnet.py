"""Deep Residual Learning for Image Recognition (He, Zhang, Ren and Sun, CVPR 2016).

Parameters are named as torchvision names them, so that its checkpoints and those of the toolboxes after it fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import mul
from typing import Any, Literal

from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Conv, Factory, Features, Norm
from detcore.layers import BN, conv_norm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Style = Literal["pytorch", "caffe"]
MakeNorm = Factory[Norm] | Callable[[int], nn.Module]
MakeConv = Factory[Conv] | Callable[..., nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left).

    Args:
        in_channels: Of the map that comes in.
        channels: Of both convolutions, and of the map that goes out.
        stride: Of the first convolution.
        dilation: Of the first convolution.
        norm: Builds the norms.
        conv: Builds the convolutions.
        conv3x3: Builds the 3x3 convolutions; None: ``conv``.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: MakeNorm = BN,
        conv: MakeConv = nn.Conv2d,
        conv3x3: MakeConv | None = None,
    ) -> None:
        super().__init__()
        spatial = conv3x3 or conv
        self.conv1 = make_conv(spatial, in_channels, channels, 3, stride=stride, padding=dilation, dilation=dilation)
        self.bn1 = norm(channels)
        self.conv2 = make_conv(spatial, channels, channels, 3, padding=1)
        self.bn2 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(in_channels, channels, stride, norm, conv)

    @property
    def last_norm(self) -> nn.Module:
        """The norm right before the sum."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H / stride, W / stride), rounded up."""
        shortcut = x if self.downsample is None else conv_norm(self.downsample[0], self.downsample[1], x)
        x = self.relu(conv_norm(self.conv1, self.bn1, x))
        x = conv_norm(self.conv2, self.bn2, x)
        x += shortcut
        out: Tensor = self.relu(x)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (figure 5, right).

    Args:
        in_channels: Of the map that comes in.
        channels: Of the map that goes out, divided by four.
        stride: Of the 3x3 convolution (style "pytorch") or the first 1x1 convolution (style "caffe", as the paper).
        dilation: Of the 3x3 convolution.
        groups: Of the 3x3 convolution (ResNeXt).
        base_width: Width of a group where ``channels`` is 64.
        style: Where the stride is.
        norm: Builds the norms.
        conv: Builds the convolutions.
        conv3x3: Builds the 3x3 convolution; None: ``conv``.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        base_width: int = 64,
        style: Style = "pytorch",
        norm: MakeNorm = BN,
        conv: MakeConv = nn.Conv2d,
        conv3x3: MakeConv | None = None,
    ) -> None:
        super().__init__()
        width = channels * base_width // 64 * groups
        out_channels = channels * self.expansion
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        self.conv1 = make_conv(conv, in_channels, width, 1, stride=first)
        self.bn1 = norm(width)
        self.conv2 = make_conv(
            conv3x3 or conv, width, width, 3, stride=second, padding=dilation, dilation=dilation, groups=groups
        )
        self.bn2 = norm(width)
        self.conv3 = make_conv(conv, width, out_channels, 1)
        self.bn3 = norm(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(in_channels, out_channels, stride, norm, conv)

    @property
    def last_norm(self) -> nn.Module:
        """The norm right before the sum."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * channels, H / stride, W / stride), rounded up."""
        shortcut = x if self.downsample is None else conv_norm(self.downsample[0], self.downsample[1], x)
        x = self.relu(conv_norm(self.conv1, self.bn1, x))
        x = self.relu(conv_norm(self.conv2, self.bn2, x))
        x = conv_norm(self.conv3, self.bn3, x)
        x += shortcut
        out: Tensor = self.relu(x)
        return out


Block = type[BasicBlock] | type[Bottleneck]

DEPTHS: dict[int, tuple[Block, Sequence[int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
"""Table 1: which block, and how many of them in each stage."""


def make_stage(
    block: Block, in_channels: int, channels: int, blocks: int, *, stride: int = 1, **options: Any
) -> nn.Sequential:
    """``blocks`` blocks in a row, the first of which has the stride; ``options`` go to every block."""
    first = block(in_channels, channels, stride=stride, **options)
    rest = [block(channels * block.expansion, channels, **options) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class ResNet(Backbone):
    """The stem and up to four stages of residual blocks.

    Args:
        depth: 18, 34 (of :class:`BasicBlock`), 50, 101 or 152 (of :class:`Bottleneck`).
        out_indices: The stages whose maps are returned, from 0, shallow to deep; none is built after the last of them.
        frozen_stages: -1: everything trains; 0: the stem does not; n: the stem and the first n stages do not.
        norm: Builds the norms.
        norm_eval: Batch normalisation keeps its running statistics while training.
        style: A bottleneck's stride is on its 3x3 ("pytorch") or first 1x1 convolution ("caffe").
        strides: Of each stage, after the stem's 4.
        dilations: Of the 3x3 convolutions of each stage.
        groups: Of a bottleneck's 3x3 convolution (ResNeXt).
        base_width: Width of a bottleneck's group in the first stage.
        width: Channels of the stem and of the first stage's blocks; smaller for models to debug with.
        conv: Builds the convolutions.
        conv3x3: Builds the 3x3 convolutions of ``conv3x3_stages``; None: ``conv``.
        conv3x3_stages: The stages that ``conv3x3`` is for, from 0 (deformable convolutions: 1, 2 and 3).
        zero_init_residual: The last norm of a block starts at 0, so that the block starts as its shortcut.

    Raises:
        ConfigError: A depth that is not in the table, strides and dilations of different lengths, a stage that is not
            there, groups of basic blocks.
    """

    def __init__(
        self,
        *,
        depth: int = 50,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm: Factory[Norm] = BN,  # type: ignore[assignment]
        norm_eval: bool = True,
        style: Style = "pytorch",
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        groups: int = 1,
        base_width: int = 64,
        width: int = 64,
        conv: Factory[Conv] = nn.Conv2d,  # type: ignore[assignment]
        conv3x3: Factory[Conv] | None = None,
        conv3x3_stages: Sequence[int] = (1, 2, 3),
        zero_init_residual: bool = True,
    ) -> None:
        super().__init__()
        _check(depth, out_indices, frozen_stages, strides, dilations)
        _check_groups(depth, groups, base_width)
        block, blocks = DEPTHS[depth]
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.num_stages = max(out_indices) + 1

        self.conv1 = make_conv(conv, 3, width, 7, stride=2, padding=3)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        widths = [width * 2**stage for stage in range(self.num_stages)]
        ins = [width, *(each * block.expansion for each in widths)]
        bottleneck = {"groups": groups, "base_width": base_width, "style": style}
        options: dict[str, Any] = bottleneck if block is Bottleneck else {}
        for stage, channels in enumerate(widths):
            layer = make_stage(
                block,
                ins[stage],
                channels,
                blocks[stage],
                stride=strides[stage],
                dilation=dilations[stage],
                norm=norm,
                conv=conv,
                conv3x3=conv3x3 if stage in conv3x3_stages else None,
                **options,
            )
            self.add_module(f"layer{stage + 1}", layer)

        reached = [4 * stride for stride in accumulate(strides, mul)]
        self.out_channels = tuple(ins[stage + 1] for stage in self.out_indices)
        self.strides = tuple(reached[stage] for stage in self.out_indices)
        if zero_init_residual:
            _start_as_shortcuts(self)
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> the maps (B, C_l, H_l, W_l) of ``out_indices``, sides divided by the stride, rounded up."""
        x = self.maxpool(self.relu(conv_norm(self.conv1, self.bn1, images)))
        maps = []
        for stage, layer in enumerate(self.stages):
            x = layer(x)
            if stage in self.out_indices:
                maps.append(x)
        return maps

    @property
    def stages(self) -> Sequence[nn.Module]:
        """``layer1``, ``layer2``, ..."""
        return [self.get_submodule(f"layer{stage + 1}") for stage in range(self.num_stages)]

    def train(self, mode: bool = True) -> ResNet:
        """As any module, except that frozen stages and, with ``norm_eval``, statistics stay as they are."""
        super().train(mode)
        for module in self._frozen():
            module.eval().requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _frozen(self) -> Iterator[nn.Module]:
        if self.frozen_stages >= 0:
            yield from (self.conv1, self.bn1, *self.stages[: self.frozen_stages])


def make_conv(make: MakeConv, in_channels: int, out_channels: int, kernel_size: int, **options: Any) -> nn.Module:
    """A convolution without bias, its weight drawn after He et al. 2015 (normal, fan out)."""
    layer = make(in_channels, out_channels, kernel_size, bias=False, **options)
    nn.init.kaiming_normal_(layer.get_parameter("weight"), mode="fan_out", nonlinearity="relu")
    return layer


def make_shortcut(
    in_channels: int, out_channels: int, stride: int, norm: MakeNorm, conv: MakeConv
) -> nn.Sequential | None:
    """The projection of a shortcut (option B of the paper), or None where shapes agree."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(make_conv(conv, in_channels, out_channels, 1, stride=stride), norm(out_channels))


def _start_as_shortcuts(model: nn.Module) -> None:
    """Set each block's last scale to 0 (Goyal et al. 2017, section 5.1)."""
    for module in model.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            nn.init.zeros_(module.last_norm.get_parameter("weight"))


def _check(
    depth: int, out_indices: Sequence[int], frozen_stages: int, strides: Sequence[int], dilations: Sequence[int]
) -> None:
    if depth not in DEPTHS:
        raise ConfigError("depth", f"there is no ResNet-{depth}", f"Depths are {', '.join(map(str, DEPTHS))}.")
    if len(strides) != len(dilations) or len(strides) > 4:
        found = f"{len(strides)} strides and {len(dilations)} dilations"
        raise ConfigError("dilations", found, "Each of the up to 4 stages has one stride and one dilation.")
    last = len(strides) - 1
    if not out_indices or list(out_indices) != sorted({*out_indices}) or out_indices[0] < 0 or out_indices[-1] > last:
        fix = f"Give stages from 0 to {last}, each once, in rising order."
        raise ConfigError("out_indices", f"{list(out_indices)}", fix)
    if not -1 <= frozen_stages <= len(strides):
        raise ConfigError("frozen_stages", f"{frozen_stages}", f"Give -1 (none) to {len(strides)} (all).")


def _check_groups(depth: int, groups: int, base_width: int) -> None:
    if DEPTHS[depth][0] is BasicBlock and (groups, base_width) != (1, 64):
        found = f"{groups} groups of base width {base_width} in a ResNet-{depth}"
        raise ConfigError("groups", found, "Only bottlenecks (depth 50 and more) have groups.")
