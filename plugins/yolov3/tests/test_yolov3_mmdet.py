"""YOLOv3 of MMDetection, neck to detections: what comes out here, which name a tensor has there, and what is listed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from detcore_mmdet import Translated, translate

NECK: dict[str, Any] = {
    "type": "YOLOV3Neck",
    "num_scales": 3,
    "in_channels": [1024, 512, 256],
    "out_channels": [512, 256, 128],
}
SUM = {"type": "CrossEntropyLoss", "use_sigmoid": True, "reduction": "sum"}
SQUARES = {"type": "MSELoss", "reduction": "sum", "loss_weight": 2.0}
HEAD: dict[str, Any] = {
    "type": "YOLOV3Head",
    "num_classes": 3,
    "in_channels": [512, 256, 128],
    "featmap_strides": [32, 16, 8],
    **{f"loss_{name}": SUM for name in ("cls", "conf", "xy")},
    "loss_wh": SQUARES,
}
ANCHORS = {"type": "YOLOAnchorGenerator", "base_sizes": [[[9, 8], 7], [[6, 5], [4, 3]]], "strides": [16, 8]}
TRAIN: dict[str, Any] = {
    "assigner": {"type": "GridAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": [0.1, 0.5], "min_pos_iou": 0}
}
TEST: dict[str, Any] = {
    "nms_pre": 1000,
    "min_bbox_size": 0,
    "score_thr": 0.05,
    "conf_thr": 0.005,
    "nms": {"type": "nms", "iou_threshold": 0.45},
    "max_per_img": 100,
}


def translated(model: dict[str, Any] | None = None, **head: Any) -> Translated:
    table = {"type": "YOLOV3", "bbox_head": {**HEAD, **head}, "train_cfg": TRAIN, "test_cfg": TEST}
    return translate({**table, **(model or {})})


def test_what_is_not_said_is_as_there() -> None:
    found = translated({"neck": NECK})
    assert (found.lost, found.num_classes) == ([], 3)
    assert found.model["neck"] == {"type": "YOLOV3Neck", "out_channels": [128, 256, 512]}
    assert found.model["head"] == {
        "type": "ComposedHead",
        "geometry": {"type": "YOLOAnchors"},
        "network": {"type": "YOLOV3Towers"},
        "assigner": {"type": "GridAssigner", "pos_iou": 0.5, "neg_iou": [0.1, 0.5], "min_pos_iou": 0},
        "loss": {"type": "YOLOV3Loss", "loss_cls": SUM, "loss_conf": SUM, "loss_xy": SUM, "loss_wh": SQUARES},
        "decoder": {
            "type": "YOLOV3Decoder",
            "conf_threshold": 0.005,
            "score_threshold": 0.05,
            "nms_pre": 1000,
            "nms_iou": 0.45,
            "max_detections": 100,
            "clip": False,
        },
    }
    model = {"bbox_head": {key: value for key, value in HEAD.items() if key != "featmap_strides"}}
    assert translated(model).model["head"]["geometry"] == {"type": "YOLOAnchors", "strides": [8, 16, 32]}


def test_levels_are_turned_round() -> None:
    found = translated(anchor_generator=ANCHORS, in_channels=[8, 4], out_channels=[16, 8])
    assert found.lost == []
    sizes = [[[6, 5], [4, 3]], [[9, 8], [7, 7]]]
    assert found.model["head"]["geometry"] == {"type": "YOLOAnchors", "base_sizes": sizes}


def test_thresholds_that_nobody_says_do_not_exist() -> None:
    found = translated({"test_cfg": {"nms": TEST["nms"], "max_per_img": 100}})
    assert found.lost == []
    assert found.model["head"]["decoder"] == {
        "type": "YOLOV3Decoder",
        "conf_threshold": 0.0,
        "score_threshold": 0.0,
        "nms_pre": {"_none_": True},
        "nms_iou": 0.45,
        "max_detections": 100,
        "clip": False,
    }


def test_layers() -> None:
    layers = {"norm_cfg": {"type": "BN", "eps": 1e-3}, "act_cfg": {"type": "Mish"}}
    found = translated({"neck": {**NECK, **layers}}, **layers)
    assert found.lost == []
    for part in (found.model["neck"], found.model["head"]["network"]):
        assert (part["norm"], part["act"]) == ({"type": "BN", "eps": 1e-3}, {"type": "Mish"})


@pytest.mark.parametrize(
    ("model", "head", "listed"),
    [
        ({}, {"balance_conf": True}, "bbox_head.balance_conf = True: has no counterpart"),
        ({}, {"one_hot_smoother": 0.1}, "one_hot_smoother = 0.1: only 0 has"),
        ({}, {"out_channels": [512, 256, 128]}, "out_channels = .*: only twice in_channels"),
        ({}, {"bbox_coder": {"type": "YOLOBBoxCoder", "eps": 1e-3}}, "bbox_coder.eps = 0.001: only 1e-06"),
        ({}, {"loss_cls": {**SUM, "reduction": "mean"}}, "loss_cls.reduction = 'mean': only 'sum'"),
        ({}, {"loss_wh": {"type": "MSELoss"}}, "loss_wh.reduction = None: only 'sum'"),
        ({"neck": {**NECK, "conv_cfg": {"type": "DCN"}}}, {}, "neck.conv_cfg = .*: only None"),
        ({"test_cfg": {**TEST, "min_bbox_size": 4}}, {}, "test_cfg.min_bbox_size = 4: boxes of every size"),
        ({"test_cfg": {**TEST, "nms": {"type": "soft_nms"}}}, {}, "nms.type = 'soft_nms': only 'nms'"),
        ({"train_cfg": {"assigner": {**TRAIN["assigner"], "gt_max_assign_all": False}}}, {}, "gt_max_assign_all"),
        ({"train_cfg": {**TRAIN, "sampler": {"type": "RandomSampler"}}}, {}, "sampler.type = 'RandomSampler'"),
    ],
)
def test_what_has_no_counterpart_is_listed(model: dict[str, Any], head: dict[str, Any], listed: str) -> None:
    (lost,) = translated(model, **head).lost
    assert re.search(listed, str(lost))


def test_losses_that_nobody_says_are_means_there() -> None:
    bare = {key: value for key, value in HEAD.items() if not key.startswith("loss")}
    found = translated({"bbox_head": bare})
    assert [each.path for each in found.lost] == [
        f"model.bbox_head.loss_{name}.reduction" for name in ("cls", "conf", "xy", "wh")
    ]
    assert found.model["head"]["loss"]["loss_wh"] == {"type": "MSELoss"}


def test_names_of_tensors() -> None:
    names = {
        "neck.detect.0.4.conv.weight": "neck.detect1.conv5.conv.weight",
        "neck.detect.2.0.norm.bias": "neck.detect3.conv1.bn.bias",
        "neck.reduce.1.norm.weight": "neck.conv2.bn.weight",
        "head.network.bridge.0.conv.weight": "bbox_head.convs_bridge.2.conv.weight",
        "head.network.bridge.1.norm.weight": "bbox_head.convs_bridge.1.bn.weight",
        "head.network.predict.2.bias": "bbox_head.convs_pred.0.bias",
    }
    part = translated({"neck": NECK}).part
    assert {ours: part.foreign_name(ours) for ours in names} == names
