"""Losses of class logits: focal (Lin et al. 2017) and cross entropy.

Class targets are int64, 0 to C - 1 for objects; background is C or any negative number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detcore.interfaces import Loss
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from detcore_losses.reduction import Reduction, ReductionKind, full_precision


def one_hot(target: Tensor, classes: int) -> Tensor:
    """(...) int64 -> (..., C) bool; no class where the target is negative or at least C."""
    return target[..., None] == torch.arange(classes, device=target.device)


def sigmoid_focal(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss (Lin et al. 2017, equation 5) of each element.

    Args:
        logits: (..., C).
        target: (..., C), 0 or 1.
        gamma: How fast the loss of easy elements falls off.
        alpha: Weight of the ones; zeros weigh ``1 - alpha``.
    """
    wrong = (target - logits.sigmoid()).abs()
    balance = torch.where(target > 0, alpha, 1 - alpha)
    return balance * wrong.pow(gamma) * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


class _FocalOfClasses(torch.autograd.Function):
    """Focal loss of logits (..., C) and classes (...), its slope made beside it: a third of the passes of autograd.

    Nearly all elements are zeros of the target, so all are computed as such, and those of the classes written over.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
        """(..., C) values."""
        values, slopes = _focal_of_zeros(logits, gamma, 1 - alpha)
        classes = logits.shape[-1]
        column = target.clamp(0, classes - 1)[..., None]
        object = ((target >= 0) & (target < classes))[..., None]
        value, slope = _focal_of_zeros(-logits.gather(-1, column), gamma, alpha)
        values.scatter_(-1, column, torch.where(object, value, values.gather(-1, column)))
        slopes.scatter_(-1, column, torch.where(object, -slope, slopes.gather(-1, column)))
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of the logits."""
        (slopes,) = ctx.saved_tensors
        return grads[0] * slopes, None, None, None


def _focal_of_zeros(logits: Tensor, gamma: float, balance: float) -> tuple[Tensor, Tensor]:
    """Values and slopes of elements whose target is 0; with their logits negated, those of ones, but for the sign."""
    likely, values = logits.sigmoid(), F.softplus(logits)
    scale = likely.pow(gamma).mul_(balance)
    values.mul_(scale)
    return values, (gamma * values).lerp_(scale, likely)


class FocalLoss(Loss):
    """Focal loss over C sigmoids (Lin et al. 2017, section 3).

    Args:
        gamma: How fast the loss of easy elements falls off.
        alpha: Weight of the class itself; the others weigh ``1 - alpha``.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    def __init__(
        self, *, gamma: float = 2.0, alpha: float = 0.25, reduction: ReductionKind = "mean", loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """(..., C) logits; (...) int64 classes or (..., C) zeros and ones; weight of either shape -> a scalar."""
        logits = full_precision(input)
        if target.dim() < logits.dim():
            values: Tensor = _FocalOfClasses.apply(logits, target, self.gamma, self.alpha)
        else:
            values = sigmoid_focal(logits, target.to(logits.dtype), self.gamma, self.alpha)
        return self.reduce(values, weight, avg_factor)


class CrossEntropyLoss(Loss):
    """Cross entropy: a softmax over C + 1 logits, background last, or C independent sigmoids.

    Args:
        use_sigmoid: Sigmoids instead of a softmax.
        class_weight: One weight per logit; of sigmoids, it weighs the positive side.
        ignore_index: Targets of this value cost nothing.
        avg_non_ignore: Without ``avg_factor``, a mean divides by the number of values that are not ignored.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        *,
        use_sigmoid: bool = False,
        class_weight: Sequence[float] | None = None,
        ignore_index: int = -100,
        avg_non_ignore: bool = False,
        reduction: ReductionKind = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.softmax = not use_sigmoid
        self.ignore_index = ignore_index
        self.avg_non_ignore = avg_non_ignore
        self.reduce = Reduction(reduction, loss_weight)
        weights = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """Logits (..., C + 1 or C) and targets -> a scalar.

        Args:
            input: Logits.
            target: (...) int64 classes; for sigmoids also float targets of the input's shape.
            weight: (...), for sigmoids also of the input's shape.
            avg_factor: What a mean divides by.
        """
        logits = full_precision(input)
        class_weight = None if self.class_weight is None else self.class_weight.to(logits.dtype)
        values = (_softmax_loss if self.softmax else _sigmoid_loss)(logits, target, class_weight)
        counted = (target != self.ignore_index).reshape(target.shape + (1,) * (values.dim() - target.dim()))
        values = torch.where(counted, values, 0)
        if self.avg_non_ignore and avg_factor is None and self.reduce.kind == "mean":
            avg_factor = counted.expand_as(values).sum()
        return self.reduce(values, weight, avg_factor)


def _softmax_loss(logits: Tensor, target: Tensor, class_weight: Tensor | None) -> Tensor:
    background = logits.shape[-1] - 1
    classes = torch.where((target < 0) | (target > background), background, target)
    values = F.cross_entropy(logits.flatten(0, -2), classes.flatten(), class_weight, reduction="none")
    return values.reshape(target.shape)


def _sigmoid_loss(logits: Tensor, target: Tensor, class_weight: Tensor | None) -> Tensor:
    if target.dim() < logits.dim():
        target = one_hot(target, logits.shape[-1])
    return F.binary_cross_entropy_with_logits(
        logits, target.to(logits.dtype), pos_weight=class_weight, reduction="none"
    )
