"""Faster R-CNN with ResNet-50 and FPN computes what the reference computes, from images to detections and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from detcore.detectors import TwoStage
from detcore.heads.dense import ComposedHead
from detcore.heads.roi import ComposedRoIHead, RoIStage, as_rois
from detcore.interfaces import Backbone, Neck
from detcore_dense.anchors import Anchors
from detcore_dense.decoders import RPNDecoder
from detcore_dense.deltas import DeltaXYWHCoder
from detcore_dense.loss import DenseBoxLoss
from detcore_dense.max_iou import MaxIoUAssigner
from detcore_dense.rpn import RPNConv
from detcore_dense.samplers import RandomSampler
from detcore_fpn.fpn import FPN
from detcore_fpn.pafpn import PAFPN
from detcore_losses.boxes import L1Loss
from detcore_losses.classification import CrossEntropyLoss
from detcore_resnet.dcn import DCN
from detcore_resnet.resnet import ResNet
from detcore_roi.box_head import Shared2FCBoxHead
from detcore_roi.decoder import RoINMSDecoder
from detcore_roi.extractor import SingleLevelRoIExtractor
from parity import golden

CLASSES = 3
EVERYTHING = 1_000_000

reference_name = golden.rename(
    (r"^rpn_head\.network\.convs\.0\.conv\.", "rpn_head.rpn_conv."),
    (r"^rpn_head\.network\.(cls|box)\.", r"rpn_head.rpn_\1."),
    (r"^roi_head\.stages\.0\.box_head\.(cls|box)\.", r"roi_head.bbox_head.fc_\1."),
    (r"^roi_head\.stages\.0\.box_head\.shared\.1\.", "roi_head.bbox_head.shared_fcs.0."),
    (r"^roi_head\.stages\.0\.box_head\.shared\.3\.", "roi_head.bbox_head.shared_fcs.1."),
    (r"(rpn|fc)_box\.", r"\1_reg."),
)

LOSSES = {
    "rpn_loss_cls": "loss_rpn_cls",
    "rpn_loss_box": "loss_rpn_bbox",
    "loss_cls": "loss_cls",
    "loss_box": "loss_bbox",
    "acc": "acc",
}


def rpn_head(strides: Sequence[int]) -> ComposedHead:
    return ComposedHead(
        num_classes=1,
        loss=DenseBoxLoss(loss_cls=CrossEntropyLoss(use_sigmoid=True), loss_box=L1Loss(), normaliser="sampled"),
        geometry=Anchors(strides=strides, scales=[8]),
        network=RPNConv(in_channels=256, class_channels=1, box_channels=4, priors_per_cell=3),
        assigner=MaxIoUAssigner(pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3),
        sampler=RandomSampler(num=EVERYTHING, pos_fraction=0.5),
        decoder=RPNDecoder(nms_pre=200, max_proposals=150, train={"nms_pre": 300}),
    )


def roi_head(strides: Sequence[int]) -> ComposedRoIHead:
    stage = RoIStage(
        num_classes=CLASSES,
        loss_cls=CrossEntropyLoss(),
        loss_box=L1Loss(),
        extractor=SingleLevelRoIExtractor(in_channels=256, strides=strides[:4]),
        coder=DeltaXYWHCoder(stds=[0.1, 0.1, 0.2, 0.2]),
        box_head=Shared2FCBoxHead(in_channels=256, roi_size=7, class_channels=CLASSES + 1, box_channels=CLASSES * 4),
        assigner=MaxIoUAssigner(pos_iou=0.5, neg_iou=0.5, min_pos_iou=0.5, match_low_quality=False),
        sampler=RandomSampler(num=EVERYTHING, pos_fraction=0.25),
    )
    return ComposedRoIHead(num_classes=CLASSES, stages=[stage], decoder=RoINMSDecoder())


ResNet50 = partial(ResNet, depth=50, frozen_stages=1)
FPN5 = partial(FPN, num_outs=5, extra="max_pool")

OTHERS: dict[str, tuple[Callable[..., Backbone], Callable[..., Neck]]] = {
    "faster_rcnn_r50_dcn": (partial(ResNet50, conv3x3=DCN), FPN5),
    "faster_rcnn_r50_pafpn": (ResNet50, partial(PAFPN, num_outs=5, extra="max_pool")),
}


def detector(make_backbone: Callable[..., Backbone] = ResNet50, make_neck: Callable[..., Neck] = FPN5) -> TwoStage:
    backbone = make_backbone()
    neck = make_neck(in_channels=backbone.out_channels, in_strides=backbone.strides)
    strides = neck.strides
    return TwoStage(backbone=backbone, neck=neck, rpn_head=rpn_head(strides), roi_head=roi_head(strides))


def test_features_raw_outputs_losses_gradients_curve_and_detections() -> None:
    case = golden.load("faster_rcnn_r50")
    model = detector().eval()
    names = case.fill(model, reference_name)
    batch = case.batch()
    with torch.no_grad():
        features = model.neck(model.backbone(batch.images))
        case.check_maps("feats", list(features))
        proposals = model.rpn_head.detections(model.rpn_head(features, batch), batch)
        assert [len(each) for each in proposals] == [150, 150]
        stage, rois = model.roi_head.stages[0], as_rois([each.boxes for each in proposals])
        case.check_maps("raw", [stage(features, rois)])
        case.check_detections(model.roi_head.detections(features, proposals, batch))
        stage.extractor.finest_scale = 28.0  # a deliberate fault: regions from other levels
        with pytest.raises(AssertionError, match=r"raw\.0\.0: differs by"):
            case.check_maps("raw", [stage(features, rois)])
        stage.extractor.finest_scale = 56.0
    case.check_training(model, names, LOSSES)


@pytest.mark.parametrize("name", OTHERS)
def test_with_another_backbone_or_neck_too(name: str) -> None:
    case = golden.load(name)
    model = detector(*OTHERS[name]).eval()
    names = case.fill(model, reference_name)
    batch = case.batch()
    with torch.no_grad():
        features = model.neck(model.backbone(batch.images))
        proposals = model.rpn_head.detections(model.rpn_head(features, batch), batch)
        case.check_detections(model.roi_head.detections(features, proposals, batch))
    case.check_training(model, names, LOSSES)
