"""RetinaNet with GHM losses computes what the reference computes; what the losses keep from step to step, too."""

from __future__ import annotations

import pytest
from detcore.detectors import OneStage
from detcore.heads.dense import ComposedHead
from detcore.interfaces import DenseLoss
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import NMSDecoder
from detcore_dense.loss import DenseBoxLoss
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_fpn.fpn import FPN
from detcore_losses.ghm import GHMC, GHMR
from detcore_resnet.resnet import ResNet
from detcore_retinanet.retinanet import RetinaTowers
from parity import golden

CLASSES = 3
STRIDES = (8, 16, 32, 64, 128)
LOSSES = {"loss_cls": "loss_cls", "loss_box": "loss_bbox"}
EDGES = ["bbox_head.loss_cls.edges", "bbox_head.loss_bbox.edges"]
"""Constants of the losses, which we do not keep in checkpoints."""
reference_name = golden.rename(
    (r"^head\.loss\.loss_(cls|box)\.density\.", r"bbox_head.loss_\1."),
    (r"\.loss_box\.", ".loss_bbox."),
    (r"^head\.network\.(cls|box)\.", r"bbox_head.retina_\1."),
    (r"^head\.network\.(cls|box)_convs\.", r"bbox_head.\1_convs."),
    (r"_head\.(retina_|)box", r"_head.\1reg"),
)


def detector(loss: DenseLoss) -> OneStage:
    backbone = ResNet(depth=50, frozen_stages=1)
    neck = FPN(
        in_channels=backbone.out_channels, in_strides=backbone.strides, start_level=1, num_outs=5, extra="on_input"
    )
    head = ComposedHead(
        num_classes=CLASSES,
        loss=loss,
        geometry=Anchors(strides=STRIDES, octave_base_scale=4, scales_per_octave=3),
        network=RetinaTowers(in_channels=256, class_channels=CLASSES, box_channels=4, priors_per_cell=9),
        assigner=MaxIoUAssigner(pos_iou=0.5, neg_iou=0.4),
        decoder=NMSDecoder(),
    )
    return OneStage(backbone=backbone, neck=neck, head=head)


def ghm(per_level: bool = True) -> DenseBoxLoss:
    return DenseBoxLoss(
        loss_cls=GHMC(bins=30, momentum=0.75), loss_box=GHMR(momentum=0.7, loss_weight=10.0), per_level=per_level
    )


def test_features_raw_outputs_losses_gradients_curve_and_detections() -> None:
    case = golden.load("retinanet_r50_ghm")
    model = detector(ghm())
    names = case.fill(model, reference_name, absent=EDGES)
    case.check_dense(model, ["cls", "box"])
    case.check_training(model, names, LOSSES)


def test_the_case_would_notice_levels_read_together() -> None:
    """A deliberate fault, so that the test above is known to look."""
    case = golden.load("retinanet_r50_ghm")
    model = detector(ghm(per_level=False))
    names = case.fill(model, reference_name, absent=EDGES)
    with pytest.raises(AssertionError, match="loss_cls"):
        case.check_training(model, names, LOSSES, curve=False)
