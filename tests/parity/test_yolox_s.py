"""YOLOX-S computes what the reference computes, from images to detections and six training steps."""

from __future__ import annotations

import pytest
import torch
from detcore.detectors import OneStage
from detcore.heads.dense import ComposedHead
from detcore.interfaces import HeadNetwork
from detcore_csp_darknet.csp_darknet import CSPDarknet
from detcore_losses.boxes import IoULoss, L1Loss
from detcore_losses.classification import CrossEntropyLoss
from detcore_yolox.yolox import YOLOXPAFPN, PointsWH, SimOTAAssigner, YOLOXDecoder, YOLOXLoss, YOLOXTowers
from parity import golden

CLASSES = 3
STRIDES = (8, 16, 32)
RAW = ["cls", "box", "objectness"]
LOSSES = {"loss_cls": "loss_cls", "loss_box": "loss_bbox", "loss_obj": "loss_obj"}

reference_name = golden.rename(
    (r"\.norm\.", ".bn."),
    (r"^backbone\.stem\.", "backbone.stem.conv."),
    (r"^head\.network\.", "bbox_head.multi_level_"),
)


def head(network: HeadNetwork) -> ComposedHead:
    loss = YOLOXLoss(
        loss_cls=CrossEntropyLoss(use_sigmoid=True),
        loss_box=IoULoss(mode="square", eps=1e-16, loss_weight=5.0),
        loss_obj=CrossEntropyLoss(use_sigmoid=True),
        loss_l1=L1Loss(),
    )
    return ComposedHead(
        num_classes=CLASSES,
        loss=loss,
        geometry=PointsWH(strides=STRIDES),
        network=network,
        assigner=SimOTAAssigner(),
        decoder=YOLOXDecoder(clip=False),
    )


def detector() -> OneStage:
    backbone = CSPDarknet(deepen_factor=0.33, widen_factor=0.5)
    neck = YOLOXPAFPN(in_channels=backbone.out_channels, in_strides=backbone.strides, num_csp_blocks=1)
    towers = YOLOXTowers(in_channels=128, strides=neck.strides, class_channels=CLASSES)
    return OneStage(backbone=backbone, neck=neck, head=head(towers))


def test_features_raw_outputs_losses_gradients_curve_and_detections() -> None:
    case = golden.load("yolox_s")
    model = detector()
    names = case.fill(model, reference_name)
    case.check_dense(model, RAW)
    case.check_training(model, names, LOSSES)


def test_decoding_alone() -> None:
    case = golden.load("decode_yolox_s")
    given = dict(zip(RAW, case.given(), strict=True))
    composed, batch = head(golden.Given(given)), case.batch()
    case.check_detections(composed.detections(composed(given["cls"], batch), batch))


def test_the_case_would_notice_another_k() -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("yolox_s")
    model = detector()
    case.fill(model, reference_name)
    model.head.get_submodule("assigner").candidate_topk = 1  # type: ignore[assignment]
    with torch.no_grad(), pytest.raises(AssertionError, match="loss_cls"):
        case.check_losses(model.losses(case.batch()), LOSSES)
