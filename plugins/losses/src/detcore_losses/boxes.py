"""Losses of boxes: the IoU family on boxes in pixels, L1 on encoded vectors.

The formulas are plain functions of aligned boxes (..., 4) xyxy, and differentiable everywhere, also for boxes without
area: areas and lengths are held off zero by ``eps``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from detcore.interfaces import Loss
from torch import Tensor
from torch.nn import functional as F

from detcore_losses.reduction import Reduction, ReductionKind, full_precision, one_of

# ----------------------------------------------------------------------------------------------------- the formulas


def iou(boxes: Tensor, others: Tensor, eps: float = 1e-6) -> Tensor:
    """(..., 4), (..., 4) -> (...) intersection over union, 0 to 1."""
    inside, union = _areas(boxes, others)
    return inside / union.clamp(min=eps)


def giou(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019): less the share of the hull that neither box fills; -1 to 1."""
    inside, union = _areas(boxes, others)
    union = union.clamp(min=eps)
    hull = _hull(boxes, others).prod(-1).clamp(min=eps)
    return inside / union - (hull - union) / hull


def diou(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    """Distance IoU (Zheng et al. 2020): less the squared distance of centres over the hull's squared diagonal."""
    diagonal = _hull(boxes, others).square().sum(-1)
    centres = (boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2
    return iou(boxes, others, eps) - centres.square().sum(-1) / (diagonal + eps)


def ciou(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    """Complete IoU (Zheng et al. 2021): distance IoU, less the difference of shapes where boxes overlap by half."""
    shape = 4 / math.pi**2 * (_angle(others, eps) - _angle(boxes, eps)).square()
    with torch.no_grad():
        overlap = iou(boxes, others, eps)
        tradeoff = torch.where(overlap > 0.5, shape / (1 - overlap + shape).clamp(min=eps), 0)
    return (diou(boxes, others, eps) - tradeoff * shape).clamp(-1, 1)


def _areas(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of intersection and union."""
    corner = torch.maximum(boxes[..., :2], others[..., :2])
    inside = (torch.minimum(boxes[..., 2:], others[..., 2:]) - corner).clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1)
    return inside, areas - inside


def _hull(boxes: Tensor, others: Tensor) -> Tensor:
    """Width and height of the smallest box around both."""
    corner = torch.minimum(boxes[..., :2], others[..., :2])
    return (torch.maximum(boxes[..., 2:], others[..., 2:]) - corner).clamp(min=0)


def _angle(boxes: Tensor, eps: float) -> Tensor:
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return torch.atan(width / (height + eps))


# ------------------------------------------------------------------------------------------------ the IoU family


class IoULoss(Loss):
    """Intersection over union of boxes in pixels (Yu et al. 2016, UnitBox).

    Args:
        mode: ``log``: -ln IoU; ``linear``: 1 - IoU; ``square``: 1 - IoU squared.
        eps: The least IoU, so that boxes that do not meet have a finite loss.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    decoded = True

    def __init__(
        self,
        *,
        mode: Literal["linear", "square", "log"] = "log",
        eps: float = 1e-6,
        reduction: ReductionKind = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        modes = {"linear": _linear, "square": _square, "log": _log}
        self.of_iou = modes[one_of("mode", mode, tuple(modes))]
        self.eps = eps
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """(..., 4) boxes, (..., 4) boxes; weight (...) or (..., 4), its mean counts -> a scalar."""
        overlap = iou(full_precision(input), full_precision(target)).clamp(min=self.eps)
        return self.reduce(self.of_iou(overlap), _per_box(weight, input), avg_factor)


class GIoULoss(Loss):
    """1 - generalised IoU of boxes in pixels (Rezatofighi et al. 2019).

    Args:
        eps: The least area of union and hull.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    decoded = True

    def __init__(self, *, eps: float = 1e-6, reduction: ReductionKind = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.eps = eps
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """As :meth:`IoULoss.forward`."""
        values = 1 - giou(full_precision(input), full_precision(target), self.eps)
        return self.reduce(values, _per_box(weight, input), avg_factor)


class DIoULoss(Loss):
    """1 - distance IoU of boxes in pixels (Zheng et al. 2020); arguments as of :class:`GIoULoss`."""

    decoded = True

    def __init__(self, *, eps: float = 1e-6, reduction: ReductionKind = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.eps = eps
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """As :meth:`IoULoss.forward`."""
        values = 1 - diou(full_precision(input), full_precision(target), self.eps)
        return self.reduce(values, _per_box(weight, input), avg_factor)


class CIoULoss(Loss):
    """1 - complete IoU of boxes in pixels (Zheng et al. 2021); arguments as of :class:`GIoULoss`."""

    decoded = True

    def __init__(self, *, eps: float = 1e-6, reduction: ReductionKind = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.eps = eps
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """As :meth:`IoULoss.forward`."""
        values = 1 - ciou(full_precision(input), full_precision(target), self.eps)
        return self.reduce(values, _per_box(weight, input), avg_factor)


def _linear(overlap: Tensor) -> Tensor:
    return 1 - overlap


def _square(overlap: Tensor) -> Tensor:
    return 1 - overlap.square()


def _log(overlap: Tensor) -> Tensor:
    return -overlap.log()


def _per_box(weight: Tensor | None, boxes: Tensor) -> Tensor | None:
    return weight.mean(-1) if weight is not None and weight.dim() == boxes.dim() else weight


# ------------------------------------------------------------------------------------------------------- L1


class L1Loss(Loss):
    """The absolute difference of each number.

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
        """(..., K) numbers, (..., K) numbers; weight (...) or (..., K) -> a scalar."""
        return self.reduce((full_precision(input) - full_precision(target)).abs(), weight, avg_factor)


class SmoothL1Loss(Loss):
    """The absolute difference of each number, a parabola below ``beta`` (Girshick 2015, equation 3).

    Args:
        beta: Where the parabola becomes a line.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    def __init__(self, *, beta: float = 1.0, reduction: ReductionKind = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """As :meth:`L1Loss.forward`."""
        apart = full_precision(input) - full_precision(target)  # of which one tensor is kept, of the two both would be
        values = F.smooth_l1_loss(apart, apart.new_zeros(()).expand_as(apart), reduction="none", beta=self.beta)
        return self.reduce(values, weight, avg_factor)


class BalancedL1Loss(Loss):
    """The absolute difference of each number, inliers pulled harder (Pang et al. 2019, Libra R-CNN, section 3.3).

    Args:
        alpha: The less of it, the harder inliers are pulled.
        gamma: Slope for outliers.
        beta: Where inliers end.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        gamma: float = 1.5,
        beta: float = 1.0,
        reduction: ReductionKind = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.beta = beta
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """As :meth:`L1Loss.forward`."""
        difference = (full_precision(input) - full_precision(target)).abs()
        b = math.exp(self.gamma / self.alpha) - 1
        inlier = (
            self.alpha / b * (b * difference + 1) * (b * difference / self.beta + 1).log() - self.alpha * difference
        )
        outlier = self.gamma * difference + self.gamma / b - self.alpha * self.beta
        return self.reduce(torch.where(difference < self.beta, inlier, outlier), weight, avg_factor)


class MSELoss(Loss):
    """The squared difference of each number.

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
        """As :meth:`L1Loss.forward`."""
        return self.reduce((full_precision(input) - full_precision(target)).square(), weight, avg_factor)
