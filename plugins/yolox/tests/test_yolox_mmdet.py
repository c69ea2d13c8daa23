"""YOLOX of MMDetection, neck to detections: what comes out here, which name a tensor has there, and what is listed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore import assemble
from detcore.build import plan
from detcore.config.dump import spell
from detcore.recipe import Recipe
from detcore_mmdet import Translated, from_mmdet, to_mmdet, translate

NECK: dict[str, Any] = {"type": "YOLOXPAFPN", "in_channels": [128, 256, 512], "out_channels": 128}
HEAD: dict[str, Any] = {"type": "YOLOXHead", "num_classes": 3, "in_channels": 128, "strides": [8, 16, 32]}
TEST: dict[str, Any] = {"score_thr": 0.01, "nms": {"type": "nms", "iou_threshold": 0.65}}
TRAIN: dict[str, Any] = {"assigner": {"type": "SimOTAAssigner", "center_radius": 2.5}}
FIRST = {"type": "CrossEntropyLoss", "use_sigmoid": True}


def translated(model: dict[str, Any] | None = None, **head: Any) -> Translated:
    table = {"type": "YOLOX", "bbox_head": {**HEAD, **head}, "test_cfg": TEST, "train_cfg": TRAIN}
    return translate({**table, **(model or {})})


def test_what_is_not_said_is_as_there() -> None:
    found = translated({"neck": NECK})
    assert (found.lost, found.num_classes) == ([], 3)
    assert found.model["neck"] == {"type": "YOLOXPAFPN", "out_channels": 128}
    assert found.model["head"] == {
        "type": "ComposedHead",
        "geometry": {"type": "PointsWH"},
        "network": {"type": "YOLOXTowers", "channels": 256},
        "assigner": {"type": "SimOTAAssigner", "center_radius": 2.5},
        "loss": {
            "type": "YOLOXLoss",
            "loss_cls": FIRST,
            "loss_box": {"type": "IoULoss", "mode": "square", "eps": 1e-16, "loss_weight": 5.0},
            "loss_obj": FIRST,
            "loss_l1": {"type": "L1Loss"},
        },
        "decoder": {"type": "YOLOXDecoder", "score_threshold": 0.01, "nms_iou": 0.65, "clip": False},
    }
    model = {"bbox_head": {key: value for key, value in HEAD.items() if key != "strides"}}
    assert translated(model).model["head"]["geometry"] == {"type": "PointsWH", "strides": [8, 16, 32]}


def test_options() -> None:
    loss = {**FIRST, "reduction": "sum", "loss_weight": 2.0}
    neck = {**NECK, "num_csp_blocks": 1, "use_depthwise": True, "norm_cfg": {"type": "BN"}}
    head = {"stacked_convs": 3, "use_depthwise": True, "act_cfg": {"type": "ReLU"}, "loss_obj": loss}
    assigner = {"type": "SimOTAAssigner", "candidate_topk": 5, "iou_weight": 2.0, "cls_weight": 0.5}
    test = {**TEST, "max_per_img": 100, "nms_pre": 1000}  # which that head does not read
    found = translated({"neck": neck, "train_cfg": {"assigner": assigner}, "test_cfg": test}, **head)
    assert found.lost == []
    ours = found.model["head"]
    assert found.model["neck"] == {
        "type": "YOLOXPAFPN",
        "out_channels": 128,
        "num_csp_blocks": 1,
        "depthwise": True,
        "norm": {"type": "BN"},
    }
    assert ours["network"] == {
        "type": "YOLOXTowers",
        "channels": 256,
        "stacked_convs": 3,
        "depthwise": True,
        "act": {"type": "ReLU"},
    }
    assert ours["loss"]["loss_obj"] == {**FIRST, "loss_weight": 2.0}
    assert ours["assigner"] == assigner
    assert "max_detections" not in ours["decoder"]


@pytest.mark.parametrize(
    ("model", "head", "listed"),
    [
        ({}, {"mystery": 1}, "bbox_head.mystery = 1: has no counterpart"),
        ({}, {"dcn_on_last_conv": True}, "dcn_on_last_conv = True: only False"),
        ({}, {"conv_bias": True}, "conv_bias = True: convolutions before a norm"),
        ({}, {"loss_cls": {**FIRST, "reduction": "mean"}}, "loss_cls.reduction = 'mean': only 'sum'"),
        ({}, {"loss_cls": FIRST}, "loss_cls.reduction = None: only 'sum'"),
        ({}, {"loss_bbox": {"type": "L1Loss", "reduction": "sum"}}, "loss_bbox = .*: it reads boxes in pixels"),
        ({}, {"norm_cfg": None}, "norm_cfg = None: there is always one"),
        ({"neck": {**NECK, "upsample_cfg": {"mode": "bilinear"}}}, {}, "neck.upsample_cfg = .*: only .*'nearest'"),
        ({"test_cfg": {**TEST, "nms": {"type": "soft_nms"}}}, {}, "test_cfg.nms.type = 'soft_nms': only 'nms'"),
        ({"test_cfg": {**TEST, "nms": {"class_agnostic": True}}}, {}, "nms.class_agnostic = True: only False"),
        ({"train_cfg": {"assigner": {**TRAIN["assigner"], "topk": 1}}}, {}, "assigner.topk = 1: has no counterpart"),
        ({"input_size": [640, 640]}, {}, r"model.input_size = \[640, 640\]: has no counterpart"),
        ({"random_size_interval": 10}, {}, "model.random_size_interval = 10: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(model: dict[str, Any], head: dict[str, Any], listed: str) -> None:
    (lost,) = translated(model, **head).lost
    assert re.search(listed, str(lost))


@pytest.mark.parametrize("depthwise", [False, True])
def test_names_of_tensors_there_and_back(tmp_path: Path, depthwise: bool) -> None:
    """A whole detector, narrow, with plain and with depthwise convolutions (YOLOX-S and -Nano)."""
    options = {"use_depthwise": depthwise}
    backbone = {"type": "CSPDarknet", "widen_factor": 0.125, "deepen_factor": 0.33, **options}
    neck = {**NECK, "in_channels": [32, 64, 128], "out_channels": 32, "num_csp_blocks": 1, **options}
    found = translated({"backbone": backbone, "neck": neck}, in_channels=32, feat_channels=32, **options)
    (tmp_path / "a.toml").write_text(f"model = {spell(found.model, loadable=True)}\n")
    config, catalog = assemble.load(str(tmp_path / "a.toml"))
    detector = plan(config, catalog, Recipe).build("model", assemble.class_flow(config, ["a", "b", "c"]))
    theirs = to_mmdet(detector.state_dict(), found.part)
    step = ".depthwise_conv" if depthwise else ""
    assert theirs.keys() >= {
        "backbone.stem.conv.bn.weight",
        f"backbone.stage2.0{step}.conv.weight",
        f"neck.downsamples.1{step}.bn.running_var",
        f"neck.top_down_blocks.0.blocks.0.conv2{step}.conv.weight",
        "neck.reduce_layers.0.conv.weight",
        "neck.out_convs.2.bn.bias",
        f"bbox_head.multi_level_cls_convs.2.1{step}.conv.weight",
        f"bbox_head.multi_level_reg_convs.0.0{step}.bn.weight",
        "bbox_head.multi_level_conv_obj.1.bias",
    }
    assert len([name for name in theirs if "pointwise" in name]) == len(
        [name for name in theirs if "depthwise" in name]
    )
    back = from_mmdet(theirs, detector.state_dict(), found.part)
    assert all(torch.equal(back[name], value) for name, value in detector.state_dict().items())
    assert not [name for name in theirs if ".norm." in name]
