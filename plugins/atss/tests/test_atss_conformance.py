"""ATSS, composed of its parts, keeps the contract of dense heads; so does RetinaNet with its assigner."""

from __future__ import annotations

from collections.abc import Sequence

from detcore.heads.dense import ComposedHead
from detcore.interfaces import Channels, NumClasses, Strides
from detcore.testing import check_dense_head
from detcore_atss.atss import ATSSAssigner, ATSSTowers
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder
from detcore_dense.loss import DenseBoxLoss
from detcore_fcos.fcos import FCOSLoss
from detcore_losses.boxes import GIoULoss, L1Loss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_retinanet.retinanet import RetinaTowers


def head(*, in_channels: Channels[int], strides: Strides[Sequence[int]], num_classes: NumClasses) -> ComposedHead:
    return ComposedHead(
        num_classes=num_classes,
        loss=FCOSLoss(loss_cls=FocalLoss(), loss_box=GIoULoss(), loss_centerness=CrossEntropyLoss(use_sigmoid=True)),
        geometry=Anchors(strides=strides, scales=[8.0], ratios=[1.0], stds=[0.1, 0.1, 0.2, 0.2]),
        network=ATSSTowers(
            in_channels=in_channels,
            strides=strides,
            class_channels=num_classes,
            box_channels=4,
            priors_per_cell=1,
            channels=32,
            stacked_convs=1,
        ),
        assigner=ATSSAssigner(),
        decoder=NMSDecoder(quality="centerness"),
    )


def retina_head(
    *, in_channels: Channels[int], strides: Strides[Sequence[int]], num_classes: NumClasses
) -> ComposedHead:
    return ComposedHead(
        num_classes=num_classes,
        loss=DenseBoxLoss(loss_cls=FocalLoss(), loss_box=L1Loss()),
        geometry=Anchors(strides=strides, scales=[8.0]),
        network=RetinaTowers(
            in_channels=in_channels, class_channels=num_classes, box_channels=4, priors_per_cell=3, feat_channels=8
        ),
        assigner=ATSSAssigner(),
        decoder=NMSDecoder(),
    )


def test_it_is_a_dense_head() -> None:
    check_dense_head(head)


def test_its_assigner_serves_other_heads() -> None:
    check_dense_head(retina_head)
