"""Dice loss of masks and of other sets (Milletari, Navab and Ahmadi 2016, V-Net, section 3)."""

from __future__ import annotations

from detcore.interfaces import Loss
from torch import Tensor

from detcore_losses.reduction import Reduction, ReductionKind, full_precision


class DiceLoss(Loss):
    """1 - the Dice coefficient of each row, twice what two sets share over what they hold.

    Args:
        activate: Whether the input is logits, else probabilities.
        naive_dice: What a set holds is the sum of its probabilities, not of their squares.
        eps: Added to what the sets hold; in the naive form to what they share, too.
        reduction: ``mean``, ``sum`` or ``none``.
        loss_weight: Multiplies the loss.
    """

    def __init__(
        self,
        *,
        activate: bool = True,
        naive_dice: bool = False,
        eps: float = 1e-3,
        reduction: ReductionKind = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.activate = activate
        self.naive_dice = naive_dice
        self.eps = eps
        self.reduce = Reduction(reduction, loss_weight)

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """(N, ...) logits and (N, ...) zeros to ones; weight (N,), or (N, ...) of which the mean counts -> a scalar."""
        given = full_precision(input).flatten(1)
        wanted = target.to(given.dtype).flatten(1)
        if self.activate:
            given = given.sigmoid()
        shared = 2 * (given * wanted).sum(1)
        if self.naive_dice:
            coefficient = (shared + self.eps) / (given.sum(1) + wanted.sum(1) + self.eps)
        else:
            coefficient = shared / (given.square().sum(1) + wanted.square().sum(1) + 2 * self.eps)
        if weight is not None and weight.dim() > 1:
            weight = weight.flatten(1).mean(1)
        return self.reduce(1 - coefficient, weight, avg_factor)
