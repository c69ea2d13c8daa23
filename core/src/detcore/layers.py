"""Layers by name: convolutions, normalisations, activations, and the block of the three."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from detcore.distributed import is_parallel, sum_over_ranks
from detcore.interfaces import Activation, Conv, Factory, Norm

RELU = partial(nn.ReLU, inplace=True)


def BN(
    channels: int, *, eps: float = 1e-5, momentum: float = 0.1, frozen: bool = False, folded: bool = False
) -> nn.Module:
    """Batch normalisation over (B, H, W).

    Args:
        channels: C.
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running statistics.
        frozen: The affine parameters do not train (statistics still do, unless the owner keeps them in eval mode).
        folded: While it keeps its statistics it is computed within the convolution before it, see :func:`conv_norm`:
            faster, and the same up to rounding, which is why it has to be asked for.
    """
    norm = nn.BatchNorm2d(channels, eps=eps, momentum=momentum).requires_grad_(not frozen)
    norm.folded = folded  # type: ignore[assignment]  # torch's modules take any attribute
    return norm


def SyncBN(channels: int, *, eps: float = 1e-5, momentum: float = 0.1, frozen: bool = False) -> nn.Module:
    """Batch normalisation with the statistics of all ranks of a distributed run; see :func:`BN`."""
    return SyncBatchNorm(channels, eps=eps, momentum=momentum).requires_grad_(not frozen)


class SyncBatchNorm(nn.BatchNorm2d):
    """:func:`SyncBN`, on any device; torch's own knows no CPU, and waits for the device to say who has an empty map."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not (self.training and is_parallel()):
            return super().forward(x)
        mean, var, count = _moments(x.to(self.weight.dtype))
        with torch.no_grad():
            self.get_buffer("num_batches_tracked").add_(1)
            self.get_buffer("running_mean").lerp_(mean, self.momentum or 0.0)
            self.get_buffer("running_var").lerp_(var * (count / (count - 1).clamp(min=1)), self.momentum or 0.0)
        scale = (var + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x.to(scale.dtype), scale[:, None, None]).to(x.dtype)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # what the ranks tell each other is no part of a program
def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, C, H, W) -> mean (C,), variance (C,) and number of the values of all ranks, of which one may have none."""
    own, axes = x.numel() // x.shape[1], (0, 2, 3)
    var, mean = torch.var_mean(x, axes, correction=0) if own else (x.sum(axes), x.sum(axes))
    count = sum_over_ranks(x.new_full((), own)).clamp(min=1)
    of_all = sum_over_ranks(mean * own) / count
    return of_all, sum_over_ranks((var + (mean - of_all).square()) * own) / count, count


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
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


def conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(conv(x))``; a ``folded`` batch norm that keeps its statistics becomes part of the convolution's weight.

    The numbers are the same up to rounding; a pass over the map, and a copy of it for the backward pass, are saved. So
    it is done where the map is larger than the weight, and not where a module has hooks that wait to be called. The
    weight of a trained convolution stays as it is before a frozen norm: it would be kept twice, and no map is spared.
    """
    if type(conv) is nn.Conv2d and isinstance(norm, _BatchNorm) and _folds(conv, norm, x):
        scale, shift = _scale_and_shift(norm)
        if conv.bias is not None:
            shift = shift + conv.bias * scale
        weight = conv.weight * scale[:, None, None, None]
        return F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)
    return _normalise(norm, conv(x))


def _normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(x)``; one that is fixed keeps no map for the backward pass, which does not need it (torch's would)."""
    if isinstance(norm, _BatchNorm) and x.requires_grad and x.dtype == torch.float32 and _constant(norm):
        scale, shift = _scale_and_shift(norm)
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None])
    out: Tensor = norm(x)
    return out


def _scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """(C,) each; rounded where torch's batch norm rounds."""
    scale = (norm.get_buffer("running_var") + norm.eps).rsqrt() * norm.weight
    return scale, torch.addcmul(norm.bias, norm.get_buffer("running_mean"), scale, value=-1)


def _fixed(norm: _BatchNorm) -> bool:
    return not norm.training and norm.affine and norm.track_running_stats


def _constant(norm: _BatchNorm) -> bool:
    return _fixed(norm) and not (norm.weight.requires_grad or norm.bias.requires_grad or _hooked(norm))


def _folds(conv: nn.Conv2d, norm: _BatchNorm, x: Tensor) -> bool:
    plain = conv.padding_mode == "zeros" and conv.weight.dtype == torch.float32 and not _hooked(conv, norm)
    positions = x.numel() // (conv.in_channels * conv.stride[0] * conv.stride[1])
    larger = positions > conv.weight.numel() // conv.out_channels
    costs = torch.is_grad_enabled() and conv.weight.requires_grad and _constant(norm)
    return getattr(norm, "folded", False) and _fixed(norm) and plain and larger and not costs


def _hooked(*modules: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for module in modules for name in hooks)


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
        act: Factory[Activation] | Callable[[], nn.Module] | None = RELU,
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
        x = self.conv(x) if self.norm is None else conv_norm(self.conv, self.norm, x)
        return x if self.act is None else self.act(x)
