"""FPN: Feature Pyramid Networks for Object Detection (Lin et al., CVPR 2017), section 3."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from detcore.errors import ConfigError
from detcore.interfaces import Activation, Channels, Conv, Factory, Features, Neck, Norm, Strides
from detcore.layers import ConvNormAct
from torch import Tensor, nn
from torch.nn import functional as F

Extra = Literal["max_pool", "on_input", "on_lateral", "on_output"]


class FPN(Neck):
    """Lateral 1x1 convolutions, a way down that adds the upsampled deeper map, and a 3x3 convolution on each sum.

    Levels beyond the deepest map are made from it one after the other, each half as large as the one before: by picking
    every second cell ("max_pool", Faster R-CNN), or by 3x3 convolutions of stride 2, the first of which reads the
    backbone's deepest map ("on_input", RetinaNet), its sum on the way down ("on_lateral") or its output ("on_output",
    FCOS).

    Args:
        in_channels: Of each map that comes in.
        in_strides: Of each map that comes in.
        out_channels: Of every map that goes out.
        num_outs: How many maps go out; None: as many as are read.
        start_level: The first map that is read.
        end_level: The last map that is read; negative counts from the end.
        extra: How levels beyond the deepest map are made.
        relu_before_extra: A ReLU between one extra convolution and the next.
        norm: Builds the norms; None: none, and the convolutions have a bias.
        norm_on_lateral: Whether lateral convolutions have the norm, too.
        act: Builds the activations of all convolutions; None: none.
        conv: Builds the convolutions.

    Raises:
        ConfigError: Levels that are not there, fewer outputs than maps read, more outputs with no ``extra``.
    """

    def __init__(
        self,
        *,
        in_channels: Channels[Sequence[int]],
        in_strides: Strides[Sequence[int]],
        out_channels: int = 256,
        num_outs: int | None = None,
        start_level: int = 0,
        end_level: int = -1,
        extra: Extra | None = None,
        relu_before_extra: bool = False,
        norm: Factory[Norm] | None = None,
        norm_on_lateral: bool = True,
        act: Factory[Activation] | None = None,
        conv: Factory[Conv] = nn.Conv2d,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        levels = levels_read(start_level, end_level, len(in_channels))
        extras = count_extras(num_outs, len(levels), extra)
        self.levels = levels
        self.extra = extra
        self.relu_before_extra = relu_before_extra
        self.num_extras = extras

        options: dict[str, Any] = {"act": act, "conv": conv}
        lateral_norm = norm if norm_on_lateral else None
        self.lateral_convs = nn.ModuleList(
            ConvNormAct(in_channels[level], out_channels, 1, norm=lateral_norm, **options) for level in levels
        )
        self.fpn_convs = nn.ModuleList(ConvNormAct(out_channels, out_channels, 3, norm=norm, **options) for _ in levels)
        if extra != "max_pool":
            first = in_channels[levels[-1]] if extra == "on_input" else out_channels
            self.fpn_convs.extend(
                ConvNormAct(channels, out_channels, 3, norm=norm, stride=2, **options)
                for channels in [first, *[out_channels] * extras][:extras]
            )
        self.out_channels = (out_channels,) * (len(levels) + extras)
        read = [in_strides[level] for level in levels]
        self.strides = (*read, *(read[-1] * 2 ** (index + 1) for index in range(extras)))
        init_convs(*self.lateral_convs, *self.fpn_convs)

    def forward(self, features: Features) -> Features:
        """L maps (B, C_l, H_l, W_l) -> ``num_outs`` maps (B, out_channels, H_l, W_l)."""
        sums = [lateral(features[level]) for level, lateral in zip(self.levels, self.lateral_convs, strict=True)]
        for level in range(len(sums) - 1, 0, -1):
            size = sums[level - 1].shape[-2:]
            sums[level - 1] = sums[level - 1] + F.interpolate(sums[level], size=size, mode="nearest")
        outs = self._outs(sums)
        if self.extra == "max_pool":
            return self._pooled(outs)
        sources = {"on_input": features[self.levels[-1]], "on_lateral": sums[-1]}
        return self._convolved(outs, sources.get(self.extra or "", outs[-1]))

    def _outs(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """The sums on the way down -> the output of each level that is read."""
        return [conv(each) for conv, each in zip(self.fpn_convs, sums, strict=False)]

    def _pooled(self, outs: list[Tensor]) -> list[Tensor]:
        for _ in range(self.num_extras):
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return outs

    def _convolved(self, outs: list[Tensor], source: Tensor) -> list[Tensor]:
        for conv in self.fpn_convs[len(self.levels) :]:
            outs.append(conv(source))
            source = F.relu(outs[-1]) if self.relu_before_extra else outs[-1]
        return outs


def levels_read(start: int, end: int, num_maps: int) -> range:
    """The levels from ``start`` to ``end``, of which a negative one counts from the end.

    Raises:
        ConfigError: They are not there.
    """
    last = end + num_maps if end < 0 else end
    if not 0 <= start <= last < num_maps:
        found = f"start_level = {start} and end_level = {end} of {num_maps} maps"
        raise ConfigError("start_level", found, f"Give 0 <= start_level <= end_level <= {num_maps - 1}.")
    return range(start, last + 1)


def count_extras(num_outs: int | None, read: int, extra: str | None) -> int:
    """How many levels there are beyond the deepest map.

    Raises:
        ConfigError: Fewer outputs than maps read, or more with no ``extra``.
    """
    extras = 0 if num_outs is None else num_outs - read
    if extras < 0:
        found = f"{num_outs}, but {read} maps are read"
        raise ConfigError("num_outs", found, "Give as many or more, or read fewer by start_level and end_level.")
    if extras > 0 and extra is None:
        found = f"{num_outs}, but {read} maps are read and nothing says how to make more"
        fix = 'Give extra = "max_pool", "on_input", "on_lateral" or "on_output".'
        raise ConfigError("num_outs", found, fix)
    return extras


def check_doubling(strides: Sequence[int]) -> None:
    """Each map is half as large as the one before.

    Raises:
        ConfigError: One is not.
    """
    if any(deeper != 2 * stride for stride, deeper in pairwise(strides)):
        found = f"{', '.join(map(str, strides))}"
        raise ConfigError("in_strides", found, "This neck reads maps of which each has twice the stride of the last.")


def init_convs(*layers: nn.Module) -> None:
    """Xavier uniform weights, biases 0."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.get_parameter("conv.weight"))
        if isinstance(layer.get_submodule("conv").bias, Tensor):
            nn.init.zeros_(layer.get_parameter("conv.bias"))
