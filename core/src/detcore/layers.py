"""Layers by name: convolutions, normalisations, activations, and the block of the three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detcore.interfaces import Activation, Conv, Factory, Norm


def BN(channels: int, *, eps: float = 1e-5, momentum: float = 0.1, frozen: bool = False) -> nn.Module:
    """Batch normalisation over (B, H, W).

    Args:
        channels: C.
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running statistics.
        frozen: The affine parameters do not train (statistics still do, unless the owner keeps them in eval mode).
    """
    return nn.BatchNorm2d(channels, eps=eps, momentum=momentum).requires_grad_(not frozen)


def SyncBN(channels: int, *, eps: float = 1e-5, momentum: float = 0.1, frozen: bool = False) -> nn.Module:
    """Batch normalisation with the statistics of all ranks of a distributed run; see :func:`BN`."""
    return nn.SyncBatchNorm(channels, eps=eps, momentum=momentum).requires_grad_(not frozen)


def GN(channels: int, *, num_groups: int = 32, eps: float = 1e-5) -> nn.Module:
    """Group normalisation (Wu and He 2018) over ``num_groups`` groups of channels."""
    return nn.GroupNorm(num_groups, channels, eps=eps)


class LN(nn.Module):
    """Layer normalisation over the channels of a map (B, C, H, W), position by position."""

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = nn.functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNormAct(nn.Module):
    """Convolution, normalisation, activation; each of the last two may be absent.

    The convolution has a bias where there is no norm, unless ``bias`` says otherwise. Padding keeps the size.

    Args:
        in_channels: Of the map that comes in.
        out_channels: Of the map that goes out.
        kernel_size: Side of the kernel.
        norm: Builds the norm of ``out_channels``.
        act: Builds the activation.
        conv: Builds the convolution.
        bias: Whether the convolution has a bias; None: only without a norm.
        options: ``stride``, ``padding``, ``dilation``, ``groups`` of the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        norm: Factory[Norm] | Callable[[int], nn.Module] | None = None,
        act: Factory[Activation] | Callable[[], nn.Module] | None = nn.ReLU,
        conv: Factory[Conv] | Callable[..., nn.Module] = nn.Conv2d,
        bias: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        options.setdefault("padding", (kernel_size - 1) // 2 * options.get("dilation", 1))
        bias = norm is None if bias is None else bias
        self.conv = conv(in_channels, out_channels, kernel_size, bias=bias, **options)
        self.norm = None if norm is None else norm(out_channels)
        self.act = None if act is None else act()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W')."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.act is None else self.act(x)
