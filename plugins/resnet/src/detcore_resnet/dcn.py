"""Deformable Convolutional Networks (Dai et al., ICCV 2017) and Deformable ConvNets v2 (Zhu et al., CVPR 2019)."""

from __future__ import annotations

from detcore.errors import ConfigError
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DCN(nn.Conv2d):
    """A convolution whose taps read where a second convolution, ``conv_offset``, sends them (first paper, section 2.1).

    It starts as an ordinary convolution: every offset is 0.

    Args:
        in_channels: Of the map that comes in.
        out_channels: Of the map that goes out.
        kernel_size: Side of the kernel.
        stride: As of any convolution.
        padding: As of any convolution.
        dilation: As of any convolution.
        groups: As of any convolution.
        bias: As of any convolution.
        deform_groups: Groups of input channels that have offsets of their own.

    Raises:
        ConfigError: Groups that do not divide the channels.
    """

    per_tap = 2
    """Numbers that ``conv_offset`` predicts for a tap: down and right, in cells."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        deform_groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        if deform_groups < 1 or in_channels % deform_groups:
            found = f"{deform_groups} of {in_channels} channels"
            raise ConfigError("deform_groups", found, "Give a divisor of the channels.")
        predicted = self.per_tap * kernel_size**2 * deform_groups
        self.conv_offset = nn.Conv2d(in_channels, predicted, kernel_size, stride, padding, dilation)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W')."""
        return self._sampled(x, self.conv_offset(x))

    def _sampled(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        dtype = self.weight.dtype  # under autocast, maps are half as precise: positions must not be
        mask = None if mask is None else mask.to(dtype)
        where = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        out: Tensor = deform_conv2d(x.to(dtype), offset.to(dtype), self.weight, self.bias, mask=mask, **where)
        return out


class DCNv2(DCN):
    """Each tap has a weight from 0 to 1, too, at the start a half (second paper, section 3.2); else as :class:`DCN`."""

    per_tap = 3

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W')."""
        predicted = self.conv_offset(x)
        taps = predicted.shape[1] // 3
        return self._sampled(x, predicted[:, : 2 * taps], predicted[:, 2 * taps :].sigmoid())
