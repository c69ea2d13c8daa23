"""PAFPN: Path Aggregation Network for Instance Segmentation (Liu et al., CVPR 2018), section 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detcore.interfaces import Activation, Channels, Conv, Factory, Norm, Strides
from detcore.layers import ConvNormAct
from torch import Tensor, nn

from detcore_fpn.fpn import FPN, Extra, check_doubling, init_convs


class PAFPN(FPN):
    """An FPN, then a way back up: each output receives the next shallower one, halved by a 3x3 convolution of stride 2.

    Args:
        in_channels: Of each map that comes in.
        in_strides: Of each map that comes in, twice as large from one to the next.
        out_channels: Of every map that goes out.
        num_outs: How many maps go out; None: as many as are read.
        start_level: The first map that is read.
        end_level: The last map that is read; negative counts from the end.
        extra: How levels beyond the deepest map are made; see :class:`FPN`.
        relu_before_extra: A ReLU between one extra convolution and the next.
        norm: Builds the norms; None: none, and the convolutions have a bias.
        norm_on_lateral: Whether lateral convolutions have the norm, too.
        act: Builds the activations of all convolutions; None: none.
        conv: Builds the convolutions.

    Raises:
        ConfigError: As of an FPN; strides that do not double.
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
        super().__init__(
            in_channels=in_channels,
            in_strides=in_strides,
            out_channels=out_channels,
            num_outs=num_outs,
            start_level=start_level,
            end_level=end_level,
            extra=extra,
            relu_before_extra=relu_before_extra,
            norm=norm,
            norm_on_lateral=norm_on_lateral,
            act=act,
            conv=conv,
        )
        check_doubling([in_strides[level] for level in self.levels])
        options: dict[str, Any] = {"norm": norm, "act": act, "conv": conv}
        self.downsample_convs = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 3, stride=2, **options) for _ in self.levels[1:]
        )
        self.pafpn_convs = nn.ModuleList(ConvNormAct(out_channels, out_channels, 3, **options) for _ in self.levels[1:])
        init_convs(*self.downsample_convs, *self.pafpn_convs)

    def _outs(self, sums: Sequence[Tensor]) -> list[Tensor]:
        first, *deeper = super()._outs(sums)
        outs, path = [first], first
        for each, halve, conv in zip(deeper, self.downsample_convs, self.pafpn_convs, strict=True):
            path = each + halve(path)
            outs.append(conv(path))
        return outs
