"""A region proposal network, composed of this plugin's parts, keeps the contract of dense heads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from detcore.heads.dense import ComposedHead
from detcore.interfaces import Channels, Flow, Loss, NumClasses, Strides
from detcore.testing import check_dense_head
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import RPNDecoder
from detcore_dense.loss import DenseBoxLoss
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_dense.rpn import RPNConv
from detcore_dense.samplers import RandomSampler
from detcore_losses.boxes import L1Loss
from detcore_losses.classification import CrossEntropyLoss


def head(
    *, in_channels: Channels[int], strides: Strides[Sequence[int]], num_classes: NumClasses, loss_cls: Loss
) -> ComposedHead:
    loss = DenseBoxLoss(loss_cls=loss_cls, loss_box=L1Loss(), normaliser="sampled")
    network = RPNConv(
        in_channels=in_channels,
        class_channels=loss.class_channels(num_classes),
        box_channels=4,
        priors_per_cell=3,
        feat_channels=8,
    )
    return ComposedHead(
        num_classes=num_classes,
        loss=loss,
        geometry=Anchors(strides=strides, scales=[8.0]),
        network=network,
        assigner=MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3),
        sampler=RandomSampler(num=256),
        decoder=RPNDecoder(max_proposals=50),
    )


@pytest.mark.parametrize("sigmoid", [True, False])
def test_it_is_a_dense_head(sigmoid: bool) -> None:
    flow = Flow(channels=(8, 8, 8), strides=(8, 16, 32), num_classes=1)
    check_dense_head(head, flow=flow, loss_cls=CrossEntropyLoss(use_sigmoid=sigmoid))
