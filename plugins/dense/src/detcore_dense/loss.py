"""The losses of a dense head that predicts a class and a box for every prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from detcore.distributed import share_of
from detcore.interfaces import DenseLoss, Loss
from detcore.structures import IGNORED, Batch, Losses, Matches, Predictions
from torch import Tensor


class DenseBoxLoss(DenseLoss):
    """A class loss on every prior that is not ignored, a box loss on the positive ones.

    Both are divided by the same number, averaged over the ranks of a distributed run.

    Args:
        loss_cls: Reads class logits (N, C) of sigmoids, or (N, C + 1) of a softmax.
        loss_box: Reads boxes in pixels or the geometry's vectors, as its ``decoded`` says.
        normaliser: Divide by the number of ``positives``, or of all priors that are ``sampled``; by 1 at least.
        per_level: Each loss reads one level at a time, shallow to deep, and the results are summed: another number only
            for losses that weigh elements by what else they read (GHM).
    """

    def __init__(
        self,
        *,
        loss_cls: Loss,
        loss_box: Loss,
        normaliser: Literal["positives", "sampled"] = "positives",
        per_level: bool = False,
    ) -> None:
        super().__init__()
        self.loss_cls = loss_cls
        self.loss_box = loss_box
        self.normaliser = normaliser
        self.per_level = per_level
        self.softmax = loss_cls.softmax

    def forward(self, predictions: Predictions, matches: Matches, batch: Batch) -> Losses:
        """``loss_cls`` and ``loss_box`` of a batch with targets."""
        taken, positive = matches.index != IGNORED, matches.positive
        counted = positive if self.normaliser == "positives" else taken
        avg_factor = share_of(counted.sum())
        weight = 1.0 if matches.weight is None else matches.weight
        labels = batch.truth.gather_labels(matches.index)
        boxes, targets = aligned_boxes(predictions, matches, batch, self.loss_box.decoded)
        of_classes = predictions.flat("cls"), labels, (taken * weight).float()
        of_boxes = (*(each.reshape(*labels.shape, -1) for each in (boxes, targets)), (positive * weight).float())
        levels = predictions.priors.per_level if self.per_level else [labels.shape[1]]
        return {
            "loss_cls": _summed(self.loss_cls, of_classes, levels, avg_factor),
            "loss_box": _summed(self.loss_box, of_boxes, levels, avg_factor),
        }


def _summed(loss: Loss, given: Sequence[Tensor], levels: Sequence[int], avg_factor: Tensor) -> Tensor:
    """The loss of input, target and weight (B, P, ...), so many priors at a time."""
    parts = zip(*(torch.split(each, list(levels), dim=1) for each in given), strict=True)
    return torch.stack([loss(*(part.flatten(0, 1) for part in level), avg_factor) for level in parts]).sum()


def aligned_boxes(predictions: Predictions, matches: Matches, batch: Batch, decoded: bool) -> tuple[Tensor, Tensor]:
    """What is predicted and what is wanted, (B * P, 4) boxes in pixels or (B * P, K) vectors.

    Where a prior is not positive both are what a zero vector means: harmless numbers for a loss of weight 0.
    """
    priors, positive = predictions.priors, matches.positive[..., None]
    vectors = predictions.flat("box")
    vectors = torch.where(positive, vectors, 0)
    neutral = predictions.decode(priors.boxes, priors.stride, torch.zeros_like(vectors[0]))
    targets = torch.where(positive, batch.truth.gather_boxes(matches.index), neutral)
    if decoded:
        return predictions.decode(priors.boxes, priors.stride, vectors).flatten(0, 1), targets.flatten(0, 1)
    return vectors.flatten(0, 1), predictions.encode(priors.boxes, priors.stride, targets).flatten(0, 1)
