"""YOLOX's neck, and its head composed of its parts, keep their contracts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from detcore.heads.dense import ComposedHead
from detcore.interfaces import Channels, Flow, NumClasses, Strides
from detcore.testing import check_dense_head, check_neck
from detcore_losses.boxes import IoULoss, L1Loss
from detcore_losses.classification import CrossEntropyLoss
from detcore_yolox.yolox import YOLOXPAFPN, PointsWH, SimOTAAssigner, YOLOXDecoder, YOLOXLoss, YOLOXTowers


def head(
    *, in_channels: Channels[int], strides: Strides[Sequence[int]], num_classes: NumClasses, l1_from: float
) -> ComposedHead:
    entropy = CrossEntropyLoss(use_sigmoid=True)
    box = IoULoss(mode="square", eps=1e-16, loss_weight=5.0)
    loss = YOLOXLoss(loss_cls=entropy, loss_box=box, loss_obj=entropy, loss_l1=L1Loss(), l1_from=l1_from)
    return ComposedHead(
        num_classes=num_classes,
        loss=loss,
        geometry=PointsWH(strides=strides),
        network=YOLOXTowers(in_channels=in_channels, strides=strides, class_channels=num_classes, stacked_convs=1),
        assigner=SimOTAAssigner(),
        decoder=YOLOXDecoder(),
    )


@pytest.mark.parametrize("l1_from", [0.0, 0.95])
def test_it_is_a_dense_head(l1_from: float) -> None:
    check_dense_head(head, flow=Flow(channels=(8, 8, 8), strides=(8, 16, 32), num_classes=3), l1_from=l1_from)


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_neck_is_a_neck(depthwise: bool) -> None:
    check_neck(YOLOXPAFPN, out_channels=8, num_csp_blocks=1, depthwise=depthwise)
