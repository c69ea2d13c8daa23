"""ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design (Ma et al., ECCV 2018).

Parameters are named as torchvision names them, so that its checkpoints fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Factory, Features, Norm
from detcore.layers import BN
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

MakeNorm = Factory[Norm] | Callable[[int], nn.Module]

STEM = 24
REPEATS = (4, 8, 4)
CHANNELS: Mapping[float, Sequence[int]] = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
"""Table 5: channels of stages 2, 3 and 4 and of the last convolution, by width."""


class ShuffleUnit(nn.Module):
    """Two branches, joined and shuffled (figure 3 (c) and (d)).

    With stride 1 the first half of the channels is kept as it is and the second goes through ``branch2``; with stride 2
    both branches read all channels.

    Args:
        in_channels: Of the map that comes in.
        out_channels: Of the map that goes out.
        stride: 1 or 2.
        norm: Builds the norms.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: MakeNorm) -> None:
        super().__init__()
        self.stride = stride
        half = out_channels // 2
        read = half if stride == 1 else in_channels
        down = [*_depthwise(in_channels, stride, norm), *_pointwise(in_channels, half, norm)]
        self.branch1 = nn.Sequential(*([] if stride == 1 else down))
        self.branch2 = nn.Sequential(
            *_pointwise(read, half, norm), *_depthwise(half, stride, norm), *_pointwise(half, half, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride), rounded up."""
        first, second = x.chunk(2, dim=1) if self.stride == 1 else (x, x)
        return F.channel_shuffle(torch.cat([self.branch1(first), self.branch2(second)], dim=1), 2)


class ShuffleNetV2(Backbone):
    """The stem, three stages of units and a last 1x1 convolution.

    Args:
        width: 0.5, 1.0, 1.5 or 2.0: which column of table 5.
        out_indices: The maps that are returned, of stride 4 (the stem), 8, 16 and 32 (the last convolution), from 0;
            no stage after the last is built.
        frozen_stages: -1: everything trains; 0: the stem does not; n: the stem and the first n stages do not.
        norm: Builds the norms.
        norm_eval: Batch normalisation keeps its running statistics while training.

    Raises:
        ConfigError: A width that is not in the table, a map or stage that is not there.
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
        super().__init__()
        _check(width, out_indices, frozen_stages)
        *stages, last = CHANNELS[width]
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.out_channels = tuple((STEM, *stages[:2], last)[index] for index in out_indices)
        self.strides = tuple(4 * 2**index for index in out_indices)

        self.conv1 = nn.Sequential(nn.Conv2d(3, STEM, 3, 2, 1, bias=False), norm(STEM), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.num_stages = out_indices[-1]
        rows = list(zip(REPEATS, pairwise([STEM, *stages]), strict=True))[: self.num_stages]
        for stage, (repeats, (ins, outs)) in enumerate(rows, start=2):
            rest = (ShuffleUnit(outs, outs, 1, norm) for _ in range(repeats - 1))
            self.add_module(f"stage{stage}", nn.Sequential(ShuffleUnit(ins, outs, 2, norm), *rest))
        if self.num_stages == len(stages):
            self.conv5 = nn.Sequential(*_pointwise(stages[-1], last, norm))
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> the maps (B, C_l, H_l, W_l) of ``out_indices``, sides divided by the stride, rounded up."""
        maps = [self.maxpool(self.conv1(images))]
        maps.extend(stage(maps[-1]) for stage in self.stages)
        if self.num_stages == len(REPEATS):
            maps[-1] = self.conv5(maps[-1])
        return [maps[index] for index in self.out_indices]

    @property
    def stages(self) -> Sequence[nn.Module]:
        """``stage2``, ``stage3``, ..."""
        return [self.get_submodule(f"stage{stage + 2}") for stage in range(self.num_stages)]

    def train(self, mode: bool = True) -> ShuffleNetV2:
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
            yield from (self.conv1, *self.stages[: self.frozen_stages])


def _pointwise(in_channels: int, out_channels: int, norm: MakeNorm) -> Sequence[nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False), norm(out_channels), nn.ReLU(inplace=True)


def _depthwise(channels: int, stride: int, norm: MakeNorm) -> Sequence[nn.Module]:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), norm(channels)


def _check(width: float, out_indices: Sequence[int], frozen_stages: int) -> None:
    if width not in CHANNELS:
        raise ConfigError("width", f"there is no ShuffleNetV2 x{width}", f"Widths are {', '.join(map(str, CHANNELS))}.")
    if not out_indices or list(out_indices) != sorted({*out_indices}) or out_indices[0] < 0 or out_indices[-1] > 3:
        fix = "Give maps from 0 (stride 4) to 3 (stride 32), each once, in rising order."
        raise ConfigError("out_indices", f"{list(out_indices)}", fix)
    if not -1 <= frozen_stages <= len(REPEATS):
        raise ConfigError("frozen_stages", f"{frozen_stages}", f"Give -1 (none) to {len(REPEATS)} (all stages).")
