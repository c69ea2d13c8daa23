"""The losses of CornerNet (Law and Deng 2018, sections 3.2 and 3.3), other than that of the offsets."""

from __future__ import annotations

from abc import ABC, abstractmethod

from detcore.interfaces import Loss
from detcore.structures import Losses
from torch import Tensor, nn


class GaussianFocalLoss(Loss):
    """Focal loss of a heatmap whose objects are Gaussians of height 1 (equation 1).

    Args:
        alpha: Exponent of the error of the prediction: easy cells count less.
        gamma: Exponent of ``1 - target``: cells near an object count less as background.
        loss_weight: Multiplies the loss.
    """

    def __init__(self, *, alpha: float = 2.0, gamma: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.loss_weight = loss_weight

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """Logits and targets in [0, 1], both of any one shape -> a scalar; only cells of exactly 1 are objects."""
        logits = input.float()
        probability = logits.sigmoid()
        found = -nn.functional.logsigmoid(logits) * (1 - probability) ** self.alpha
        false = -nn.functional.logsigmoid(-logits) * probability**self.alpha * (1 - target) ** self.gamma
        loss = found.where(target == 1, false)
        if weight is not None:
            loss = loss * weight.reshape(weight.shape + (1,) * (loss.ndim - weight.ndim))
        return self.loss_weight * loss.sum() / (max(loss.numel(), 1) if avg_factor is None else avg_factor)


class EmbeddingLoss(nn.Module, ABC):
    """Kind of losses that teach tags to tell which corners belong to one object."""

    @abstractmethod
    def forward(self, top_left: Tensor, bottom_right: Tensor, valid: Tensor) -> Losses:
        """Tags (B, G) of the two corners of each object, and which objects are there (B, G) -> named scalars."""


class AssociativeEmbeddingLoss(EmbeddingLoss):
    """Pulls the tags of an object's corners to their mean and pushes the means of objects apart (equations 4 and 5).

    Each image's terms are means over its objects and its pairs of objects; the batch's are sums over images.

    Args:
        pull_weight: Multiplies the first term.
        push_weight: Multiplies the second.
        margin: Means further apart than this are not pushed.
    """

    def __init__(self, *, pull_weight: float = 0.25, push_weight: float = 0.25, margin: float = 1.0) -> None:
        super().__init__()
        self.pull_weight = pull_weight
        self.push_weight = push_weight
        self.margin = margin

    def forward(self, top_left: Tensor, bottom_right: Tensor, valid: Tensor) -> Losses:
        """Tags (B, G), (B, G), valid (B, G) -> ``loss_pull`` and ``loss_push``."""
        top_left, bottom_right, there = top_left.float(), bottom_right.float(), valid.float()
        count = there.sum(1)
        mean = (top_left + bottom_right) / 2
        pull = ((top_left - mean) ** 2 + (bottom_right - mean) ** 2) * there
        pull = pull.sum(1) / count.clamp(min=1)
        near = (self.margin - (mean[:, :, None] - mean[:, None]).abs()).relu()
        pairs = (there[:, :, None] * there[:, None]).tril(-1) * 2
        push = (near * pairs).sum((1, 2)) / (count * (count - 1)).clamp(min=1)
        return {"loss_pull": self.pull_weight * pull.sum(), "loss_push": self.push_weight * push.sum()}
