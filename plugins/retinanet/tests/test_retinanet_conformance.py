"""RetinaNet, composed of its parts, keeps the contract of dense heads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from detcore.heads.dense import ComposedHead
from detcore.interfaces import Channels, Loss, NumClasses, Strides
from detcore.testing import check_dense_head
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder
from detcore_dense.loss import DenseBoxLoss
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_losses.boxes import GIoULoss, L1Loss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_retinanet.retinanet import RetinaTowers


def head(
    *,
    in_channels: Channels[int],
    strides: Strides[Sequence[int]],
    num_classes: NumClasses,
    loss_cls: Loss,
    loss_box: Loss,
) -> ComposedHead:
    loss = DenseBoxLoss(loss_cls=loss_cls, loss_box=loss_box)
    network = RetinaTowers(
        in_channels=in_channels,
        class_channels=loss.class_channels(num_classes),
        box_channels=4,
        priors_per_cell=9,
        feat_channels=8,
        stacked_convs=1,
    )
    return ComposedHead(
        num_classes=num_classes,
        loss=loss,
        geometry=Anchors(strides=strides, octave_base_scale=4, scales_per_octave=3),
        network=network,
        assigner=MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4),
        decoder=NMSDecoder(),
    )


@pytest.mark.parametrize(("loss_cls", "loss_box"), [(FocalLoss(), L1Loss()), (CrossEntropyLoss(), GIoULoss())])
def test_it_is_a_dense_head(loss_cls: Loss, loss_box: Loss) -> None:
    check_dense_head(head, loss_cls=loss_cls, loss_box=loss_box)
