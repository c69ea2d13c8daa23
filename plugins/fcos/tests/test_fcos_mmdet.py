"""FCOSHead of MMDetection as a user of it writes it: what comes out here, and what is listed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from detcore_mmdet import Translated, translate

HEAD: dict[str, Any] = {"type": "FCOSHead", "num_classes": 3, "in_channels": 256, "strides": [8, 16, 32, 64, 128]}
TEST: dict[str, Any] = {
    "nms_pre": 1000,
    "score_thr": 0.05,
    "nms": {"type": "nms", "iou_threshold": 0.6},
    "max_per_img": 100,
}


def translated(model: dict[str, Any] | None = None, **head: Any) -> Translated:
    return translate({"type": "FCOS", "bbox_head": {**HEAD, **head}, "test_cfg": TEST, **(model or {})})


def test_what_is_not_said_is_as_there() -> None:
    found = translated()
    assert found.lost == []
    assert found.num_classes == 3
    assert found.model["head"] == {
        "type": "ComposedHead",
        "geometry": {"type": "Points"},
        "network": {"type": "FCOSTowers"},
        "assigner": {"type": "FCOSAssigner"},
        "loss": {
            "type": "FCOSLoss",
            "loss_cls": {"type": "FocalLoss"},
            "loss_box": {"type": "IoULoss"},
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


@pytest.mark.parametrize(
    ("options", "part", "ours"),
    [
        ({"center_sampling": True}, "assigner", {"radius": 1.5}),
        ({"center_sampling": True, "center_sample_radius": 2}, "assigner", {"radius": 2.0}),
        ({"center_sample_radius": 2}, "assigner", {}),
        ({"regress_ranges": [[-1, 64], [64, 1e8]]}, "assigner", {"ranges": [[-1, 64], [64, 1e8]]}),
        ({"regress_ranges": ((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))}, "assigner", {}),
        ({"norm_on_bbox": True}, "network", {"norm_on_box": True}),
        ({"centerness_on_reg": True}, "network", {"centerness_on_box": True}),
        ({"conv_bias": True}, "network", {"conv_bias": True}),
        ({"dcn_on_last_conv": True}, "network", {"last_conv": {"type": "DCNv2"}}),
        ({"norm_cfg": {"type": "BN"}}, "network", {"norm": {"type": "BN"}}),
        ({"norm_cfg": None}, "network", {"norm": {"_none_": True}}),
        ({"feat_channels": 64, "stacked_convs": 2}, "network", {"channels": 64, "stacked_convs": 2}),
        ({"conv_cfg": {"type": "DCN"}}, "network", {"conv": {"type": "DCN"}}),
        ({"bbox_coder": {"type": "DistancePointBBoxCoder"}}, "network", {}),
    ],
)
def test_options(options: dict[str, Any], part: str, ours: dict[str, Any]) -> None:
    found, usual = translated(**options), translated().model["head"]
    assert found.lost == []
    assert found.model["head"] == {**usual, part: {**usual[part], **ours}}


def test_strides_that_nobody_says_are_those_that_it_takes_there() -> None:
    model = {"bbox_head": {key: value for key, value in HEAD.items() if key != "strides"}}
    assert translated(model).model["head"]["geometry"] == {"type": "Points", "strides": [4, 8, 16, 32, 64]}


def test_thresholds_that_nobody_says_do_not_exist() -> None:
    found = translated({"test_cfg": {"nms": TEST["nms"], "max_per_img": 100, "nms_pre": -1}})
    assert found.model["head"]["decoder"]["score_threshold"] == 0
    assert found.model["head"]["decoder"]["nms_pre"] == {"_none_": True}


def test_it_reads_no_train_cfg() -> None:
    train = {"assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5}, "pos_weight": -1}
    found = translated({"train_cfg": train})
    assert (found.lost, found.model) == ([], translated().model)


def test_as_a_region_proposal_network_it_has_one_class_and_other_proposals_for_training() -> None:
    test = {"nms_pre": 1000, "nms": {"type": "nms", "iou_threshold": 0.7}, "max_per_img": 1000}
    train = {"rpn_proposal": {**test, "nms_pre": 2000}}
    model = {"rpn_head": {**HEAD, "num_classes": 1}, "roi_head": {"type": "OtherHead"}, "bbox_head": None}
    found = translated({**model, "train_cfg": train, "test_cfg": {"rpn": test}})
    assert not [each for each in found.lost if "rpn" in each.path]
    assert found.num_classes is None
    assert found.model["rpn_head"]["decoder"] == {
        "type": "NMSDecoder",
        "score_threshold": 0.0,
        "nms_pre": 1000,
        "nms_iou": 0.7,
        "max_detections": 1000,
        "quality": "centerness",
        "train": {"nms_pre": 2000},
    }


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({"radious": 1.5}, "model.bbox_head.radious = 1.5: has no counterpart"),
        ({"cls_predictor_cfg": {"type": "NormedLinear"}}, "cls_predictor_cfg = .*: only None has a counterpart"),
        ({"bbox_coder": {"clip_border": False}}, "bbox_coder.clip_border = False: only True has"),
        ({"init_cfg": {"type": "Xavier"}}, "init_cfg = .*: only .*'bias_prob': 0.01.* has a counterpart"),
        ({"loss_bbox": {"type": "L1Loss"}}, "loss_bbox = .*: only losses of whole boxes"),
        ({"loss_cls": {"type": "OtherLoss"}}, "loss_cls = 'OtherLoss': no installed plugin translates it"),
    ],
)
def test_what_has_no_counterpart_is_listed(options: dict[str, Any], listed: str) -> None:
    (lost,) = translated(**options).lost
    assert re.search(listed, str(lost))


@pytest.mark.parametrize(("norm", "name"), [({"type": "GN", "num_groups": 32}, "gn"), ({"type": "SyncBN"}, "bn")])
def test_names_of_tensors(norm: dict[str, Any], name: str) -> None:
    names = {
        "head.network.reg_convs.3.norm.weight": f"bbox_head.reg_convs.3.{name}.weight",
        "head.network.cls_convs.3.conv.conv_offset.bias": "bbox_head.cls_convs.3.conv.conv_offset.bias",
        "head.network.conv_centerness.bias": "bbox_head.conv_centerness.bias",
        "head.network.scales.4": "bbox_head.scales.4.scale",
    }
    part = translated(norm_cfg=norm, dcn_on_last_conv=True).part
    assert {ours: part.foreign_name(ours) for ours in names} == names
