"""Anchors, assigners, samplers, the RPN and decoding by MMDetection's names, key by key."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import NONE, Foreign, Log, Part
from detcore_dense.mmdet import TRANSLATIONS


def loss(table: Foreign) -> Part:
    return table.into("Loss")


def translated(**values: Any) -> tuple[Any, list[str]]:
    log = Log({**TRANSLATIONS, "Loss": loss})
    table = Foreign(values, "model.x", log, "x")
    part = table.translated()
    return part and part.plain, [str(each) for each in (*log.lost, *table.unread())]


NMS = {"type": "nms", "iou_threshold": 0.5}


@pytest.mark.parametrize(
    ("values", "ours"),
    [
        (
            {"type": "AnchorGenerator", "strides": [8], "octave_base_scale": 8, "scales_per_octave": 1},
            {"type": "Anchors", "scales": [8]},
        ),
        (
            {"type": "AnchorGenerator", "scales": [8], "border": 0, "coder": {"target_stds": [0.1, 0.1, 0.2, 0.2]}},
            {"type": "Anchors", "scales": [8], "border": 0, "stds": [0.1, 0.1, 0.2, 0.2]},
        ),
        (
            {"type": "AnchorGenerator", "scales": [8], "coder": {"add_ctr_clamp": True}},
            {"type": "Anchors", "scales": [8], "ctr_clamp": 32.0},
        ),
        (
            {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": (0.1, 0.4), "ignore_iof_thr": 0.5},
            {"type": "MaxIoUAssigner", "pos_iou": 0.5, "neg_iou": [0.1, 0.4], "ignore_iof": 0.5},
        ),
        (
            {"type": "RandomSampler", "num": 512, "pos_fraction": 0.25, "neg_pos_ub": 3, "add_gt_as_proposals": True},
            {"type": "RandomSampler", "num": 512, "pos_fraction": 0.25, "neg_pos_ub": 3},
        ),
        (
            {"type": "dense test_cfg", "nms": NMS, "nms_pre": -1, "max_per_img": -1, "min_bbox_size": 0},
            {"type": "NMSDecoder", "score_threshold": 0.0, "nms_pre": NONE, "nms_iou": 0.5, "max_detections": NONE},
        ),
        (
            {"type": "dense test_cfg", "nms": {**NMS, "class_agnostic": True}, "nms_pre": 9, "max_per_img": 5, "min_bbox_size": 2},
            {
                "type": "NMSDecoder", "score_threshold": 0.0, "nms_pre": 9, "nms_iou": 0.5, "max_detections": 5,
                "min_size": 2.0, "class_agnostic": True,
            },
        ),
    ],
)  # fmt: skip
def test_keys_that_have_a_counterpart(values: dict[str, Any], ours: dict[str, Any]) -> None:
    table, lost = translated(**values)
    assert lost == []
    assert table == ours


RPN: dict[str, Any] = {
    "type": "RPNHead",
    "in_channels": 256,
    "anchor_generator": {"type": "AnchorGenerator", "scales": [8]},
    "loss_cls": {"type": "Loss"},
    "loss_bbox": {"type": "Loss"},
    "train_cfg": {"sampler": {"type": "RandomSampler", "num": 256, "pos_fraction": 0.5}, "allowed_border": 0},
    "proposal": {"nms_pre": 2000, "nms": {"type": "nms", "iou_threshold": 0.7}, "max_per_img": 1000},
    "test_cfg": {"nms_pre": -1, "nms": {"type": "nms", "iou_threshold": 0.7}, "max_per_img": 1000},
}


def test_an_rpn_trains_and_tests_with_tables_of_its_own() -> None:
    table, lost = translated(**RPN)
    assert lost == []
    assert table["decoder"] == {
        "type": "RPNDecoder", "nms_pre": NONE, "nms_iou": 0.7, "max_proposals": 1000, "train": {"nms_pre": 2000},
    }  # fmt: skip
    assert table["loss"]["normaliser"] == "sampled"
    assert table["geometry"]["border"] == 0
    old = {"nms_pre": 2000, "nms_post": 2000, "max_num": 1000, "nms_thr": 0.7, "nms_across_levels": False}
    assert translated(**{**RPN, "test_cfg": old})[0]["decoder"]["max_proposals"] == 1000


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({**RPN, "num_classes": 2}, "model.x.num_classes = 2: only 1 has a counterpart"),
        (
            {"type": "dense test_cfg", "nms": {"type": "soft_nms", "iou_threshold": 0.5}},
            "model.x.nms.type = 'soft_nms': only 'nms' has a counterpart",
        ),
        ({"type": "AnchorGenerator", "scales": [8], "centers": [1]}, "model.x.centers = [1]: only None has a counterpart"),
        ({"type": "RandomSampler", "num": 1, "surprise": 2}, "model.x.surprise = 2: has no counterpart"),
    ],
)  # fmt: skip
def test_keys_that_have_none_are_listed(values: dict[str, Any], told: str) -> None:
    assert translated(**values)[1] == [told]


def test_everything_is_no_sampler() -> None:
    assert translated(type="PseudoSampler") == (None, [])
