"""ATSS with ResNet-50 and FPN computes what the reference computes, from images to detections and six training steps."""

from __future__ import annotations

import pytest
from detcore.detectors import OneStage
from detcore.heads.dense import ComposedHead
from detcore.interfaces import HeadNetwork
from detcore_atss.atss import ATSSAssigner, ATSSTowers
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder
from detcore_fcos.fcos import FCOSLoss
from detcore_fpn.fpn import FPN
from detcore_losses.boxes import GIoULoss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_resnet.resnet import ResNet
from parity import golden

CLASSES = 3
STRIDES = (8, 16, 32, 64, 128)
RAW = ["cls", "box", "centerness"]
LOSSES = {"loss_cls": "loss_cls", "loss_box": "loss_bbox", "loss_centerness": "loss_centerness"}

reference_name = golden.rename(
    (r"^head\.network\.conv_", "bbox_head.atss_"),
    (r"^head\.network\.", "bbox_head."),
    (r"_convs\.(\d)\.norm\.", r"_convs.\1.gn."),
    (r"scales\.(\d)$", r"scales.\1.scale"),
)


def head(network: HeadNetwork, decoder: NMSDecoder) -> ComposedHead:
    centerness = CrossEntropyLoss(use_sigmoid=True)
    return ComposedHead(
        num_classes=CLASSES,
        loss=FCOSLoss(loss_cls=FocalLoss(), loss_box=GIoULoss(loss_weight=2.0), loss_centerness=centerness),
        geometry=Anchors(strides=STRIDES, ratios=[1.0], scales=[8.0], stds=[0.1, 0.1, 0.2, 0.2]),
        network=network,
        assigner=ATSSAssigner(),
        decoder=decoder,
    )


def detector() -> OneStage:
    backbone = ResNet(depth=50, frozen_stages=1)
    neck = FPN(
        in_channels=backbone.out_channels, in_strides=backbone.strides, start_level=1, num_outs=5, extra="on_output"
    )
    towers = ATSSTowers(
        in_channels=256, strides=neck.strides, class_channels=CLASSES, box_channels=4, priors_per_cell=1
    )
    return OneStage(backbone=backbone, neck=neck, head=head(towers, NMSDecoder(nms_iou=0.6, quality="centerness")))


def test_features_raw_outputs_losses_gradients_curve_and_detections() -> None:
    case = golden.load("atss_r50")
    model = detector()
    names = case.fill(model, reference_name)
    case.check_dense(model, RAW)
    case.check_training(model, names, LOSSES)


def test_decoding_alone() -> None:
    case = golden.load("decode_atss_r50")
    given = dict(zip(RAW, case.given(), strict=True))
    decoder = NMSDecoder(nms_pre=60, nms_iou=0.6, max_detections=400, quality="centerness")
    composed = head(golden.Given(given), decoder)
    batch = case.batch()
    case.check_detections(composed.detections(composed(given["cls"], batch), batch))


def test_the_case_would_notice_another_number_of_candidates() -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("atss_r50")
    model = detector()
    names = case.fill(model, reference_name)
    model.head.assigner = ATSSAssigner(topk=8)
    with pytest.raises(AssertionError, match="loss_box"):
        case.check_training(model, names, LOSSES, curve=False)
