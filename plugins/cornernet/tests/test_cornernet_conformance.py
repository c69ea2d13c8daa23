"""The corner head and its loss keep their contracts."""

from __future__ import annotations

from detcore.interfaces import Flow
from detcore.testing import check_dense_head, check_loss
from detcore_cornernet.cornernet import CornerHead
from detcore_cornernet.losses import AssociativeEmbeddingLoss, GaussianFocalLoss
from detcore_losses.boxes import SmoothL1Loss


def test_the_corner_head_is_a_dense_head() -> None:
    stacks = Flow(channels=(8, 8), strides=(4, 4), num_classes=3)
    losses = {"loss_heatmap": GaussianFocalLoss(), "loss_embedding": AssociativeEmbeddingLoss()}
    check_dense_head(CornerHead, flow=stacks, size=(64, 96), loss_offset=SmoothL1Loss(), **losses)


def test_the_heatmap_loss_is_a_loss() -> None:
    check_loss(GaussianFocalLoss(), reads="probabilities")
