"""FCOS, composed of its parts, keeps the contract of dense heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from detcore.heads.dense import ComposedHead
from detcore.interfaces import Channels, Loss, NumClasses, Strides
from detcore.testing import check_dense_head
from detcore_dense.decoders import NMSDecoder
from detcore_dense.points import Points
from detcore_fcos.fcos import FCOSAssigner, FCOSLoss, FCOSTowers
from detcore_losses.boxes import GIoULoss, IoULoss, L1Loss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss


def head(
    *,
    in_channels: Channels[int],
    strides: Strides[Sequence[int]],
    num_classes: NumClasses,
    loss_box: Loss,
    radius: float = 0.0,
    **options: Any,
) -> ComposedHead:
    entropy = CrossEntropyLoss(use_sigmoid=True)
    network = FCOSTowers(
        in_channels=in_channels, strides=strides, class_channels=num_classes, channels=8, norm=None, **options
    )
    return ComposedHead(
        num_classes=num_classes,
        loss=FCOSLoss(loss_cls=FocalLoss(), loss_box=loss_box, loss_centerness=entropy),
        geometry=Points(strides=strides),
        network=network,
        assigner=FCOSAssigner(radius=radius),
        decoder=NMSDecoder(quality="centerness"),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"loss_box": IoULoss()},
        {"loss_box": GIoULoss(), "norm_on_box": True, "centerness_on_box": True, "radius": 1.5},
        {"loss_box": L1Loss(), "norm_on_box": True, "stacked_convs": 0},
    ],
)
def test_it_is_a_dense_head(options: dict[str, Any]) -> None:
    check_dense_head(head, **{"stacked_convs": 1, **options})
