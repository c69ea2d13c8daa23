"""RetinaNet with ResNet-50 and FPN computes what the reference computes, from images to detections and training."""

from __future__ import annotations

import attrs
import pytest
import torch
from detcore.detectors import OneStage
from detcore.heads.dense import ComposedHead
from detcore.interfaces import HeadNetwork
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder
from detcore_dense.loss import DenseBoxLoss
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_fpn.fpn import FPN
from detcore_losses.boxes import L1Loss
from detcore_losses.classification import FocalLoss
from detcore_resnet.resnet import ResNet
from detcore_retinanet.retinanet import RetinaTowers
from parity import golden

CLASSES = 3
STRIDES = (8, 16, 32, 64, 128)

reference_name = golden.rename(
    (r"^head\.network\.(cls|box)\.", r"bbox_head.retina_\1."),
    (r"^head\.network\.(cls|box)_convs\.", r"bbox_head.\1_convs."),
    (r"_head\.(retina_|)box", r"_head.\1reg"),
)


def head(network: HeadNetwork, decoder: NMSDecoder) -> ComposedHead:
    return ComposedHead(
        num_classes=CLASSES,
        loss=DenseBoxLoss(loss_cls=FocalLoss(), loss_box=L1Loss()),
        geometry=Anchors(strides=STRIDES, octave_base_scale=4, scales_per_octave=3),
        network=network,
        assigner=MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4),
        decoder=decoder,
    )


def detector() -> OneStage:
    backbone = ResNet(depth=50, frozen_stages=1)
    neck = FPN(
        in_channels=backbone.out_channels, in_strides=backbone.strides, start_level=1, num_outs=5, extra="on_input"
    )
    towers = RetinaTowers(in_channels=256, class_channels=CLASSES, box_channels=4, priors_per_cell=9)
    return OneStage(backbone=backbone, neck=neck, head=head(towers, NMSDecoder()))


def test_features_raw_outputs_losses_gradients_curve_and_detections() -> None:
    case = golden.load("retinanet_r50")
    model = detector()
    names = case.fill(model, reference_name)
    case.check_dense(model, ["cls", "box"])
    case.check_training(model, names, {"loss_cls": "loss_cls", "loss_box": "loss_bbox"})


def test_decoding_alone() -> None:
    case = golden.load("decode_retinanet_r50")
    given = dict(zip(["cls", "box"], case.given(), strict=True))
    composed = head(golden.Given(given), NMSDecoder(nms_pre=60, max_detections=400))
    batch = case.batch()
    case.check_detections(composed.detections(composed(given["cls"], batch), batch))


def test_the_case_would_notice_another_order_of_anchors() -> None:
    """A deliberate fault, so that the tests above are known to look."""
    case = golden.load("decode_retinanet_r50")
    given = dict(zip(["cls", "box"], case.given(), strict=True))
    composed = head(golden.Given(given), NMSDecoder(nms_pre=60, max_detections=400))
    composed.geometry = Anchors(strides=STRIDES, octave_base_scale=4, scales_per_octave=3, ratios=(2.0, 1.0, 0.5))
    batch = case.batch()
    with pytest.raises(AssertionError, match="has no partner"):
        case.check_detections(composed.detections(composed(given["cls"], batch), batch))


def test_no_object_gives_a_finite_loss_and_a_gradient_to_every_parameter() -> None:
    towers = RetinaTowers(in_channels=8, class_channels=CLASSES, box_channels=4, priors_per_cell=9, feat_channels=16)
    head_alone = head(towers, NMSDecoder())
    batch = golden.load("retinanet_r50").batch()
    nobody = torch.zeros_like(batch.truth.valid)
    batch = attrs.evolve(batch, targets=attrs.evolve(batch.truth, valid=nobody))
    features = [torch.randn(2, 8, -(-192 // stride), 256 // stride) for stride in STRIDES]
    losses = head_alone.losses(head_alone(features, batch), batch)
    torch.stack(list(losses.values())).sum().backward()
    assert float(losses["loss_box"].detach()) == 0
    for parameter in head_alone.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
