"""CARAFE: Content-Aware ReAssembly of FEatures (Wang et al., ICCV 2019), section 3, and the FPN that it enlarges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Activation, Channels, Conv, Factory, Features, Neck, Norm, Strides
from detcore.layers import ConvNormAct
from torch import Tensor, nn
from torch.nn import functional as F

from detcore_fpn.fpn import check_doubling, count_extras, init_convs, levels_read

SCALE = 2
"""How much larger the map becomes."""


def reassemble(x: Tensor, kernels: Tensor) -> Tensor:
    """Each cell of the larger map is a weighted sum of the cells around its source (equation 4).

    Args:
        x: (B, C, H, W); zero outside.
        kernels: (B, G, K * K, 4, H, W): for each group of channels and each of the 2 x 2 cells that one becomes, row by
            row, the weights of the K x K cells around it, row by row.

    Returns:
        (B, C, 2 * H, 2 * W).
    """
    batch, groups, taps, cells, height, width = kernels.shape
    side = round(taps**0.5)
    padded = F.pad(x, (side // 2,) * 4).unflatten(1, (groups, -1))[:, :, :, None]  # type: ignore[no-untyped-call]
    out = x.new_zeros(batch, groups, x.shape[1] // groups, cells, height, width)
    for tap in range(taps):  # K * K passes keep one map in memory; unfolding would keep K * K of them
        row, column = divmod(tap, side)
        near = padded[..., row : row + height, column : column + width]
        out = torch.addcmul(out, near, kernels[:, :, tap, None])
    return F.pixel_shuffle(out.flatten(1, 3), SCALE)


class CARAFE(nn.Module):
    """Twice as large a map, by kernels that the map itself predicts (figure 2).

    Args:
        channels: C.
        kernel: Side K of the reassembly kernels.
        groups: G groups of channels have kernels of their own.
        encoder_kernel: Side of the convolution that predicts the kernels.
        compressed_channels: That it reads.
    """

    def __init__(
        self, channels: int, *, kernel: int = 5, groups: int = 1, encoder_kernel: int = 3, compressed_channels: int = 64
    ) -> None:
        super().__init__()
        self.groups = groups
        self.taps = kernel**2
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            compressed_channels, groups * self.taps * SCALE**2, encoder_kernel, padding=encoder_kernel // 2
        )
        nn.init.xavier_uniform_(self.channel_compressor.weight)
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        for conv in (self.channel_compressor, self.content_encoder):
            nn.init.zeros_(conv.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2 * H, 2 * W)."""
        logits = self.content_encoder(self.channel_compressor(x))
        kernels = logits.unflatten(1, (self.groups, self.taps, SCALE**2)).softmax(2)
        return reassemble(x, kernels)


class FPNCARAFE(Neck):
    """An FPN whose way down enlarges by :class:`CARAFE`, and begins at the deepest of all levels that go out.

    Levels beyond the deepest map are made by 3x3 convolutions of stride 2, the first of which reads that map.

    Args:
        in_channels: Of each map that comes in.
        in_strides: Of each map that comes in, twice as large from one to the next.
        out_channels: Of every map that goes out.
        num_outs: How many maps go out; None: as many as are read.
        start_level: The first map that is read.
        end_level: The last map that is read; negative counts from the end.
        norm: Builds the norms; None: none, and the convolutions have a bias.
        act: Builds the activations of all convolutions; None: none.
        conv: Builds the convolutions.
        up_kernel: Side of the reassembly kernels, odd.
        up_groups: Groups of channels that have kernels of their own.
        encoder_kernel: Side of the convolution that predicts the kernels, odd.
        compressed_channels: That it reads.

    Raises:
        ConfigError: Levels that are not there, fewer outputs than maps read, strides that do not double, an even side,
            groups that do not divide the channels.
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
        norm: Factory[Norm] | None = None,
        act: Factory[Activation] | None = None,
        conv: Factory[Conv] = nn.Conv2d,  # type: ignore[assignment]
        up_kernel: int = 5,
        up_groups: int = 1,
        encoder_kernel: int = 3,
        compressed_channels: int = 64,
    ) -> None:
        super().__init__()
        self.levels = levels_read(start_level, end_level, len(in_channels))
        read = [in_strides[level] for level in self.levels]
        check_doubling(read)
        _check(up_kernel, up_groups, encoder_kernel, out_channels)
        extras = count_extras(num_outs, len(read), "on_input")
        outs = len(read) + extras
        options: dict[str, Any] = {"norm": norm, "act": act, "conv": conv}
        self.lateral_convs = nn.ModuleList(
            ConvNormAct(in_channels[level], out_channels, 1, **options) for level in self.levels
        )
        self.lateral_convs.extend(
            ConvNormAct(channels, out_channels, 3, stride=2, **options)
            for channels in [in_channels[self.levels[-1]], *[out_channels] * extras][:extras]
        )
        self.fpn_convs = nn.ModuleList(ConvNormAct(out_channels, out_channels, 3, **options) for _ in range(outs))
        self.upsample_modules = nn.ModuleList(
            CARAFE(
                out_channels,
                kernel=up_kernel,
                groups=up_groups,
                encoder_kernel=encoder_kernel,
                compressed_channels=compressed_channels,
            )
            for _ in range(outs - 1)
        )
        self.out_channels = (out_channels,) * outs
        self.strides = tuple(read[0] * 2**level for level in range(outs))
        init_convs(*self.lateral_convs, *self.fpn_convs)

    def forward(self, features: Features) -> Features:
        """L maps (B, C_l, H_l, W_l) -> ``num_outs`` maps (B, out_channels, H_l, W_l)."""
        read = [features[level] for level in self.levels]
        sums = [lateral(each) for lateral, each in zip(self.lateral_convs, read, strict=False)]
        source = read[-1]
        for lateral in self.lateral_convs[len(read) :]:
            source = lateral(source)
            sums.append(source)
        for level in range(len(sums) - 1, 0, -1):
            height, width = sums[level - 1].shape[-2:]
            larger = self.upsample_modules[level - 1](sums[level])
            sums[level - 1] = sums[level - 1] + larger[..., :height, :width]
        return [conv(each) for conv, each in zip(self.fpn_convs, sums, strict=True)]


def _check(up_kernel: int, up_groups: int, encoder_kernel: int, channels: int) -> None:
    for name, side in (("up_kernel", up_kernel), ("encoder_kernel", encoder_kernel)):
        if side < 1 or side % 2 == 0:
            raise ConfigError(name, f"{side}", "Give an odd side, so that a kernel has a centre.")
    if up_groups < 1 or channels % up_groups:
        raise ConfigError("up_groups", f"{up_groups} of {channels} channels", "Give a divisor of the channels.")
