"""ATSSHead and ATSSAssigner of MMDetection: what comes out here, and what is listed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from detcore_mmdet import Translated, translate

HEAD: dict[str, Any] = {
    "type": "ATSSHead",
    "num_classes": 3,
    "in_channels": 256,
    "anchor_generator": {"type": "AnchorGenerator", "scales": [8], "ratios": [1.0], "strides": [8, 16, 32, 64, 128]},
    "loss_cls": {"type": "FocalLoss"},
    "loss_bbox": {"type": "GIoULoss", "loss_weight": 2.0},
}
TRAIN: dict[str, Any] = {
    "assigner": {"type": "ATSSAssigner", "topk": 9},
    "allowed_border": -1,
    "pos_weight": -1,
    "debug": False,
}
TEST: dict[str, Any] = {
    "nms_pre": 1000,
    "score_thr": 0.05,
    "nms": {"type": "nms", "iou_threshold": 0.6},
    "max_per_img": 100,
}


def translated(head: dict[str, Any] | None = None, **train: Any) -> Translated:
    table = {"type": "ATSS", "bbox_head": {**HEAD, **(head or {})}, "test_cfg": TEST, "train_cfg": {**TRAIN, **train}}
    return translate(table)


def without(key: str) -> dict[str, Any]:
    return {"bbox_head": {name: value for name, value in HEAD.items() if name != key}, "train_cfg": TRAIN}


def test_what_is_not_said_is_as_there() -> None:
    found = translated()
    assert (found.lost, found.num_classes) == ([], 3)
    assert found.model["head"] == {
        "type": "ComposedHead",
        "geometry": {"type": "Anchors", "scales": [8], "ratios": [1.0]},
        "network": {"type": "ATSSTowers"},
        "assigner": {"type": "ATSSAssigner", "topk": 9},
        "loss": {
            "type": "FCOSLoss",
            "least_weight": 1.0,
            "loss_cls": {"type": "FocalLoss"},
            "loss_box": {"type": "GIoULoss", "loss_weight": 2.0},
            "loss_centerness": {"type": "CrossEntropyLoss", "use_sigmoid": True},
        },
        "decoder": {
            "type": "NMSDecoder",
            "score_threshold": 0.05,
            "nms_pre": 1000,
            "nms_iou": 0.6,
            "max_detections": 100,
            "quality": "centerness",
        },
    }
    assert translate(without("anchor_generator")).model["head"]["geometry"] == {
        "type": "Anchors",
        "scales": [8, 16, 32],
        "ratios": [0.5, 1.0, 2.0],
        "strides": [4, 8, 16, 32, 64],
    }
    classes = translate(without("loss_cls")).model["head"]["loss"]["loss_cls"]
    assert classes == {"type": "CrossEntropyLoss", "use_sigmoid": True}


def test_options() -> None:
    head = {"feat_channels": 64, "stacked_convs": 2, "norm_cfg": None, "bbox_coder": {"target_stds": [0.1] * 4}}
    found = translated(head, allowed_border=8)
    assert found.lost == []
    ours = found.model["head"]
    assert ours["network"] == {
        "type": "ATSSTowers",
        "channels": 64,
        "stacked_convs": 2,
        "norm": {"_none_": True},
    }
    assert (ours["geometry"]["border"], ours["geometry"]["stds"]) == (8, [0.1] * 4)


@pytest.mark.parametrize(
    ("head", "train", "listed"),
    [
        ({"mystery": 1}, {}, "bbox_head.mystery = 1: has no counterpart"),
        ({"pred_kernel_size": 1}, {}, "bbox_head.pred_kernel_size = 1: only 3 has"),
        ({"reg_decoded_bbox": False}, {}, "reg_decoded_bbox = False: only True"),
        ({"loss_bbox": {"type": "SmoothL1Loss"}}, {}, "loss_bbox = .*: only losses of whole boxes"),
        ({}, {"pos_weight": 2.0}, "train_cfg.pos_weight = 2.0: only -1"),
        ({}, {"sampler": {"type": "RandomSampler"}}, "train_cfg.sampler.type = 'RandomSampler': only 'PseudoSampler'"),
        ({}, {"assigner": {**TRAIN["assigner"], "alpha": 0.8}}, "train_cfg.assigner.alpha = 0.8: only None"),
        ({}, {"assigner": {**TRAIN["assigner"], "ignore_iof_thr": 0.5}}, "assigner.ignore_iof_thr = 0.5: only -1"),
    ],
)
def test_what_has_no_counterpart_is_listed(head: dict[str, Any], train: dict[str, Any], listed: str) -> None:
    (lost,) = translated(head, **train).lost
    assert re.search(listed, str(lost))


def test_a_loss_of_boxes_that_nobody_says_is_one_that_has_no_counterpart() -> None:
    (lost,) = translate(without("loss_bbox")).lost
    assert lost.path == "model.bbox_head.loss_bbox"


@pytest.mark.parametrize(("norm", "name"), [({"type": "GN", "num_groups": 32}, "gn"), ({"type": "BN"}, "bn")])
def test_names_of_tensors(norm: dict[str, Any], name: str) -> None:
    names = {
        "head.network.conv_cls.weight": "bbox_head.atss_cls.weight",
        "head.network.conv_centerness.bias": "bbox_head.atss_centerness.bias",
        "head.network.cls_convs.0.conv.weight": "bbox_head.cls_convs.0.conv.weight",
        "head.network.reg_convs.1.norm.bias": f"bbox_head.reg_convs.1.{name}.bias",
        "head.network.scales.4": "bbox_head.scales.4.scale",
    }
    part = translated({"norm_cfg": norm}).part
    assert {ours: part.foreign_name(ours) for ours in names} == names
