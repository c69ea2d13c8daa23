"""Losses of classes that also say how well a box fits, and of boxes as distributions.

Generalized Focal Loss (Li et al. 2020), VarifocalNet (Zhang et al. 2021). Targets of classes are qualities (..., C)
from 0 to 1, zero for every class but the object's own; or int64 classes, of which C and negative numbers mean
background.
"""

from __future__ import annotations

import torch
from detcore.interfaces import Loss
from torch import Tensor
from torch.nn import functional as F

from detcore_losses.classification import one_hot
from detcore_losses.reduction import Reduction, ReductionKind, full_precision


class QualityFocalLoss(Loss):
    """Cross entropy of C sigmoids with a quality, times their distance to the power of ``beta`` (equation 5).

    The classes of a row are summed, so that without ``avg_factor`` a mean divides by the number of rows.

    Args:
        beta: How fast the loss of close predictions falls off.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    def __init__(self, *, beta: float = 2.0, reduction: ReductionKind = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """(..., C) logits; (..., C) qualities or (...) int64 classes; weight of either shape -> a scalar."""
        logits = full_precision(input)
        quality = _qualities(target, logits)
        distance = (quality - logits.sigmoid()).abs()
        values = distance.pow(self.beta) * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
        if weight is not None and weight.dim() == values.dim():
            values, weight = values * weight, None
        return self.reduce(values.sum(-1), weight, avg_factor)


class VarifocalLoss(Loss):
    """Cross entropy of C sigmoids with a quality, which weighs it; negatives weigh as focal loss has it (equation 2).

    Args:
        alpha: Weight of the negatives.
        gamma: How fast the loss of easy negatives falls off.
        iou_weighted: Positives weigh as much as their quality; else 1.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.75,
        gamma: float = 2.0,
        iou_weighted: bool = True,
        reduction: ReductionKind = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.iou_weighted = iou_weighted
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """As :meth:`QualityFocalLoss.forward`."""
        logits = full_precision(input)
        quality = _qualities(target, logits)
        positive = quality if self.iou_weighted else torch.ones_like(quality)
        negative = self.alpha * (logits.sigmoid() - quality).abs().pow(self.gamma)
        values = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
        return self.reduce(values * torch.where(quality > 0, positive, negative), weight, avg_factor)


class DistributionFocalLoss(Loss):
    """Cross entropy of a softmax over the places 0 to n with the two places around a number (Li et al., equation 6).

    Args:
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    def __init__(self, *, reduction: ReductionKind = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """(..., n + 1) logits; (...) numbers from 0 to n (those beyond count as 0 or n); weight (...) -> a scalar."""
        likely = full_precision(input).log_softmax(-1)
        last = likely.shape[-1] - 1
        place = full_precision(target).clamp(0, last)
        left = place.floor().clamp(max=last - 1)
        share = place - left
        of_left, of_right = (likely.gather(-1, (left + step).long()[..., None])[..., 0] for step in (0, 1))
        return self.reduce(-(1 - share) * of_left - share * of_right, weight, avg_factor)


def _qualities(target: Tensor, logits: Tensor) -> Tensor:
    """Targets of either kind as qualities (..., C)."""
    if target.dim() < logits.dim():
        target = one_hot(target, logits.shape[-1])
    return target.to(logits.dtype)
