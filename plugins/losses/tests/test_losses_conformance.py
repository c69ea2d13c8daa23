"""Every loss keeps the contract of losses, in each way it can be used."""

from __future__ import annotations

import pytest
from detcore.interfaces import Loss
from detcore.testing import Reads, check_loss
from detcore_losses.boxes import BalancedL1Loss, CIoULoss, DIoULoss, GIoULoss, IoULoss, L1Loss, MSELoss, SmoothL1Loss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_losses.dice import DiceLoss
from detcore_losses.quality import QualityFocalLoss, VarifocalLoss


@pytest.mark.parametrize(
    ("loss", "reads"),
    [
        (FocalLoss(), "classes"),
        (FocalLoss(gamma=1.5), "probabilities"),
        (CrossEntropyLoss(), "classes"),
        (CrossEntropyLoss(use_sigmoid=True), "classes"),
        (CrossEntropyLoss(use_sigmoid=True), "probabilities"),
        (QualityFocalLoss(), "classes"),
        (QualityFocalLoss(beta=1.5), "probabilities"),
        (VarifocalLoss(), "classes"),
        (VarifocalLoss(iou_weighted=False), "probabilities"),
        (DiceLoss(naive_dice=True), "probabilities"),
        (IoULoss(), "boxes"),
        (IoULoss(mode="linear"), "boxes"),
        (IoULoss(mode="square"), "boxes"),
        (GIoULoss(loss_weight=2.0), "boxes"),
        (DIoULoss(), "boxes"),
        (CIoULoss(), "boxes"),
        (L1Loss(), "numbers"),
        (BalancedL1Loss(), "numbers"),
        (MSELoss(), "numbers"),
        (SmoothL1Loss(), "numbers"),
        (SmoothL1Loss(beta=1 / 9), "numbers"),
    ],
)
def test_it_is_a_loss(loss: Loss, reads: Reads) -> None:
    check_loss(loss, reads=reads)
