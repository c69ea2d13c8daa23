"""FCOS with ResNet-50 and FPN computes what the reference computes, from images to detections and six training steps."""

from __future__ import annotations

import pytest
import torch
from detcore.detectors import OneStage
from detcore.heads.dense import ComposedHead
from detcore.interfaces import HeadNetwork
from detcore.layers import BN
from detcore_dense.decoders import NMSDecoder
from detcore_dense.points import Points
from detcore_fcos.fcos import FCOSAssigner, FCOSLoss, FCOSTowers
from detcore_fpn.fpn import FPN
from detcore_losses.boxes import IoULoss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_resnet.resnet import ResNet
from parity import golden

CLASSES = 3
STRIDES = (8, 16, 32, 64, 128)
RAW = ["cls", "box", "centerness"]

reference_name = golden.rename(
    (r"^head\.network\.", "bbox_head."),
    (r"_convs\.(\d)\.norm\.", r"_convs.\1.gn."),
    (r"scales\.(\d)$", r"scales.\1.scale"),
)


def head(network: HeadNetwork, decoder: NMSDecoder) -> ComposedHead:
    loss = FCOSLoss(loss_cls=FocalLoss(), loss_box=IoULoss(), loss_centerness=CrossEntropyLoss(use_sigmoid=True))
    return ComposedHead(
        num_classes=CLASSES,
        loss=loss,
        geometry=Points(strides=STRIDES),
        network=network,
        assigner=FCOSAssigner(),
        decoder=decoder,
    )


def detector() -> OneStage:
    backbone = ResNet(depth=50, style="caffe", frozen_stages=1, norm=lambda channels: BN(channels, frozen=True))
    neck = FPN(
        in_channels=backbone.out_channels,
        in_strides=backbone.strides,
        start_level=1,
        num_outs=5,
        extra="on_output",
        relu_before_extra=True,
    )
    towers = FCOSTowers(in_channels=256, strides=neck.strides, class_channels=CLASSES)
    return OneStage(backbone=backbone, neck=neck, head=head(towers, NMSDecoder(quality="centerness")))


def test_features_raw_outputs_losses_gradients_curve_and_detections() -> None:
    case = golden.load("fcos_r50_caffe_gn")
    model = detector()
    names = case.fill(model, reference_name)
    case.check_dense(model, RAW)
    losses = {"loss_cls": "loss_cls", "loss_box": "loss_bbox", "loss_centerness": "loss_centerness"}
    case.check_training(model, names, losses)


def test_decoding_alone() -> None:
    case = golden.load("decode_fcos_r50_caffe_gn")
    given = dict(zip(RAW, case.given(), strict=True))
    decoder = NMSDecoder(nms_pre=60, max_detections=400, quality="centerness")
    composed = head(golden.Given(given), decoder)
    batch = case.batch()
    case.check_detections(composed.detections(composed(given["cls"], batch), batch))


def test_the_case_would_notice_a_change_of_scale() -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("fcos_r50_caffe_gn")
    model = detector()
    case.fill(model, reference_name)
    with torch.no_grad():
        model.head.get_parameter("network.scales.2").add_(1e-3)
    with pytest.raises(AssertionError, match=r"raw\.1\.2"):
        case.check_dense(model, RAW)
