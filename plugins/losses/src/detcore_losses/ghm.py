"""Losses harmonised by the density of gradients (Li, Liu and Wang 2019, Gradient Harmonized Single-stage Detector).

Elements whose gradients are about as long as those of many others, easy negatives and outliers alike, weigh little.
Both losses bring their own normaliser: ``avg_factor`` says nothing to them, and a weight only whether it is positive.
What they give depends on all elements that they read together; MMDetection gives them one level at a time.
"""

from __future__ import annotations

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Loss
from torch import Tensor, nn
from torch.nn import functional as F

from detcore_losses.classification import one_hot
from detcore_losses.reduction import full_precision


class GradientDensity(nn.Module):
    """One over the density of the lengths of gradients around each one (equations 5 to 9).

    Args:
        bins: Unit regions of the lengths 0 to 1.
        momentum: Share of the count of a region that is kept from step to step; 0 keeps nothing.

    Raises:
        ConfigError: No bin; a momentum that is not in [0, 1).
    """

    edges: Tensor
    acc_sum: Tensor | None

    def __init__(self, bins: int, momentum: float) -> None:
        super().__init__()
        if bins < 1:
            raise ConfigError("bins", f"{bins}", "Give one at least.")
        if not 0 <= momentum < 1:
            raise ConfigError("momentum", f"{momentum}", "Give a number in [0, 1).")
        self.momentum = momentum
        self.register_buffer("edges", torch.arange(1, bins, dtype=torch.float32) / bins, persistent=False)
        self.register_buffer("acc_sum", torch.zeros(bins) if momentum else None)

    @torch.no_grad()
    def forward(self, length: Tensor, counts: Tensor) -> Tensor:
        """Lengths 0 to 1 and which of them count (bool), of one shape -> the weights of their losses in a sum."""
        region = torch.bucketize(length, self.edges.to(length.dtype), right=True)
        number = count_each(region, counts, len(self.edges) + 1).to(length.dtype)
        found = number > 0
        density = number
        if self.acc_sum is not None:
            moved = self.momentum * self.acc_sum + (1 - self.momentum) * number
            density = self.acc_sum.copy_(torch.where(found, moved, self.acc_sum)).to(length.dtype)
        weights = torch.where(found, 1 / density, 0) / found.sum().clamp(min=1)
        return weights[region] * counts


def count_each(region: Tensor, counts: Tensor, bins: int) -> Tensor:
    """(..., K) numbers below ``bins``, and which of them count (bool) -> (bins,) int64, how often each is there.

    Unlike ``torch.bincount`` it does not wait for the device, and torch.compile knows the size of what comes out. The K
    columns are counted apart, so that those who count at once seldom write to one place.
    """
    rows, taken = (each.reshape(-1, each.shape[-1]) for each in (region, counts))
    return rows.new_zeros(bins, rows.shape[-1]).scatter_add(0, rows, taken.to(rows.dtype)).sum(1)


class GHMC(Loss):
    """Cross entropy of C sigmoids, harmonised (section "GHM-C Loss", equation 10).

    Args:
        bins: Unit regions of the lengths of gradients.
        momentum: Share of each region's count that is kept from step to step.
        loss_weight: Multiplies the loss.
    """

    def __init__(self, *, bins: int = 10, momentum: float = 0.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.density = GradientDensity(bins, momentum)
        self.loss_weight = loss_weight

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """(..., C) logits; (...) int64 classes or (..., C) zeros and ones; weight of either shape -> a scalar."""
        logits = full_precision(input)
        if target.dim() < logits.dim():
            target = one_hot(target, logits.shape[-1])
        wanted = target.to(logits.dtype)
        values = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        length = (logits.detach().sigmoid() - wanted).abs()
        share: Tensor = self.density(length, _counts(weight, values))
        return self.loss_weight * (values * share).sum()


class GHMR(Loss):
    """A smooth L1 loss of encoded vectors, harmonised (section "GHM-R Loss", equations 12 to 15).

    Args:
        mu: Where the loss, ``sqrt(d^2 + mu^2) - mu``, turns from a parabola into a line.
        bins: Unit regions of the lengths of gradients.
        momentum: Share of each region's count that is kept from step to step.
        loss_weight: Multiplies the loss.
    """

    def __init__(self, *, mu: float = 0.02, bins: int = 10, momentum: float = 0.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.mu = mu
        self.density = GradientDensity(bins, momentum)
        self.loss_weight = loss_weight

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """(..., K) numbers, (..., K) numbers; weight (...) or (..., K) -> a scalar."""
        difference = full_precision(input) - full_precision(target)
        root = (difference.square() + self.mu**2).sqrt()
        length = (difference / root).detach().abs()
        share: Tensor = self.density(length, _counts(weight, root))
        return self.loss_weight * ((root - self.mu) * share).sum()


def _counts(weight: Tensor | None, values: Tensor) -> Tensor:
    """Which of the values (..., K) have a positive weight (...) or (..., K)."""
    if weight is None:
        return torch.ones_like(values, dtype=torch.bool)
    return (weight if weight.dim() == values.dim() else weight[..., None]).expand_as(values) > 0
