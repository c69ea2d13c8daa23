"""Second stages in MMDetection's words: what is taken over, what is listed, how tensors are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore.build import plan
from detcore.config import load
from detcore.config.dump import spell
from detcore.foreign import Foreign, Log, Part
from detcore.interfaces import Detector, Flow
from detcore.plugins import discover
from detcore.structures import Batch, Targets, total_loss
from detcore_mmdet import translate
from detcore_mmdet.model import translations

EXTRACTOR: dict[str, Any] = {
    "type": "SingleRoIExtractor",
    "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
    "out_channels": 256,
    "featmap_strides": [4, 8, 16, 32],
}
BOX: dict[str, Any] = {"type": "Shared2FCBBoxHead", "in_channels": 256, "roi_feat_size": 7, "num_classes": 3}
RCNN: dict[str, Any] = {
    "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "match_low_quality": False},
    "sampler": {"type": "RandomSampler", "num": 512, "pos_fraction": 0.25, "add_gt_as_proposals": True},
    "pos_weight": -1,
    "debug": False,
}
TEST: dict[str, Any] = {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100}
GN = {"type": "GN", "num_groups": 32}


def read(
    box: Any = None, extractor: Any = None, rcnn: Any = None, test: Any = None, **keys: Any
) -> tuple[dict[str, Any], Part, list[str]]:
    """A RoI head's table, its part, and all that is told of it; ``keys`` are its own, the others change parts of it."""
    log = Log(translations(discover()))
    many = isinstance(rcnn, list)
    trains = [Foreign({**RCNN, **each}, "rcnn", log) for each in (rcnn if many else [rcnn or {}])]
    tests = Foreign({**TEST, **(test or {})}, "test", log)
    boxes = [{**BOX, **each} for each in box] if isinstance(box, list) else {**BOX, **(box or {})}
    values = {"type": "StandardRoIHead", "bbox_head": boxes, "bbox_roi_extractor": {**EXTRACTOR, **(extractor or {})}}
    head = Foreign({**values, **keys}, "roi_head", log, "roi_head")
    part = head.translated(stages=trains, test_cfg=tests)
    rest = [each for table in (head, tests, *trains) for each in table.unread()]
    return part.plain, part, [str(each) for each in (*log.lost, *log.notes, *rest)]


def stage(**changes: Any) -> dict[str, Any]:
    """The one stage that a RoI head becomes, all of which is taken over."""
    table, _, told = read(**changes)
    assert told == []
    (found,) = table["stages"]
    return found


# ---------------------------------------------------------------------------------------------------------------- stages


def test_a_head_that_says_little_is_what_it_is_there() -> None:
    assert stage() == {
        "type": "RoIStage",
        "extractor": {"type": "SingleLevelRoIExtractor", "roi_size": 7},
        "box_head": {"type": "Shared2FCBoxHead"},
        "coder": {"type": "DeltaXYWHCoder", "stds": [0.1, 0.1, 0.2, 0.2]},
        "assigner": {"type": "MaxIoUAssigner", "pos_iou": 0.5, "neg_iou": 0.5, "match_low_quality": False},
        "sampler": {"type": "RandomSampler", "num": 512, "pos_fraction": 0.25},
        "loss_cls": {"type": "CrossEntropyLoss"},
        "loss_box": {"type": "SmoothL1Loss"},
    }


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"box": {"reg_class_agnostic": True}}, {"class_agnostic": True}),
        ({"rcnn": {"sampler": {**RCNN["sampler"], "add_gt_as_proposals": False}}}, {"add_ground_truth": False}),
        ({"extractor": {"featmap_strides": [16]}}, {"num_levels": 1}),
        (
            {"box": {"reg_decoded_bbox": True, "loss_bbox": {"type": "GIoULoss", "loss_weight": 10.0}}},
            {"loss_box": {"type": "GIoULoss", "loss_weight": 10.0}},
        ),
        ({"box": {"fc_out_channels": 512}}, {"box_head": {"type": "Shared2FCBoxHead", "fc_channels": 512}}),
    ],
)
def test_what_a_stage_says(changes: dict[str, Any], ours: dict[str, Any]) -> None:
    found = stage(**changes)
    assert {key: found[key] for key in ours} == ours


def test_without_a_sampler_objects_are_no_proposals() -> None:
    found = stage(rcnn={"sampler": {"type": "PseudoSampler"}})
    assert found["add_ground_truth"] is False
    assert "sampler" not in found


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"box": {"reg_decoded_bbox": True}}, ["roi_head.bbox_head.reg_decoded_bbox = True: SmoothL1Loss reads deltas here"]),
        (
            {"box": {"loss_bbox": {"type": "GIoULoss"}}},
            ["roi_head.bbox_head.reg_decoded_bbox = None: GIoULoss reads boxes here"],
        ),
        ({"rcnn": {"pos_weight": 2}}, ["rcnn.pos_weight = 2: only -1 has a counterpart"]),
        ({"box": {"with_avg_pool": True}}, ["roi_head.bbox_head.with_avg_pool = True: only False has a counterpart"]),
        (
            {"box": {"cls_predictor_cfg": {"type": "NormedLinear"}}},
            ["roi_head.bbox_head.cls_predictor_cfg = {'type': 'NormedLinear'}: only {'type': 'Linear'} has a counterpart"],
        ),
        ({"test": {"soft": 1}}, ["test.soft = 1: has no counterpart"]),
        (
            {"test": {"nms": {"type": "soft_nms", "iou_threshold": 0.5}}},
            ["test.nms.type = 'soft_nms': only 'nms' has a counterpart"],
        ),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_listed(changes: dict[str, Any], lost: list[str]) -> None:
    assert read(**changes)[2] == lost


def test_numbers_of_stages_that_disagree_are_listed() -> None:
    found, _, told = read(rcnn=[{}, {}])
    counts = "extractors, box heads, loss weights and tables of train_cfg.rcnn are 1, 1, 1 and 2"
    assert told[0] == f"roi_head.type = 'StandardRoIHead': {counts}"
    assert len(found["stages"]) == 1


def test_regions_of_a_cascade() -> None:
    """One box head and one extractor in the table stand for all stages; what is a list, is taken in order."""
    losses = [1, 0.5, 0.25]
    keys: dict[str, Any] = {"type": "CascadeRoIHead", "num_stages": 3, "stage_loss_weights": losses}
    ious = [{"assigner": {**RCNN["assigner"], "pos_iou_thr": iou, "neg_iou_thr": iou}} for iou in (0.5, 0.6, 0.7)]
    for boxes in ({"fc_out_channels": 64}, [{"fc_out_channels": 64}] * 3):
        table, part, told = read(box=boxes, rcnn=ious, **keys)
        assert told == []
        assert [each.get("weight", 1) for each in table["stages"]] == losses
        assert [each["assigner"]["pos_iou"] for each in table["stages"]] == [0.5, 0.6, 0.7]
        assert [each["box_head"]["fc_channels"] for each in table["stages"]] == [64, 64, 64]
        assert part.foreign_name("stages.2.box_head.cls.weight") == "roi_head.bbox_head.2.fc_cls.weight"


@pytest.mark.parametrize(
    ("test", "ours"),
    [
        ({}, {"score_threshold": 0.05, "nms_iou": 0.5, "max_detections": 100}),
        ({"max_per_img": -1}, {"score_threshold": 0.05, "nms_iou": 0.5, "max_detections": None}),
        (
            {"nms": {"type": "nms", "iou_threshold": 0.7, "class_agnostic": True}, "score_thr": 0.1},
            {"score_threshold": 0.1, "nms_iou": 0.7, "class_agnostic": True, "max_detections": 100},
        ),
    ],
)
def test_how_detections_are_chosen(test: dict[str, Any], ours: dict[str, Any]) -> None:
    assert read(test=test)[0]["decoder"] == {"type": "RoINMSDecoder", **ours}


# ------------------------------------------------------------------------------------------------ extractors, box heads


@pytest.mark.parametrize(
    ("layer", "ours"),
    [
        ({"output_size": 14, "sampling_ratio": 2}, {"roi_size": 14, "sampling_ratio": 2}),
        ({"output_size": [5, 5], "use_torchvision": True}, {"roi_size": 5}),
        ({"aligned": False}, {"roi_size": 7, "aligned": False}),
    ],
)
def test_how_regions_are_cut_out(layer: dict[str, Any], ours: dict[str, Any]) -> None:
    found = stage(extractor={"roi_layer": {"type": "RoIAlign", **layer}, "finest_scale": 28})["extractor"]
    assert found == {"type": "SingleLevelRoIExtractor", **ours, "finest_scale": 28}


def test_regions_of_other_layers_are_listed() -> None:
    told = read(extractor={"roi_layer": {"type": "RoIPool", "output_size": [7, 5]}})[2]
    assert told == [
        "roi_head.bbox_roi_extractor.roi_layer.type = 'RoIPool': only 'RoIAlign' has a counterpart",
        "roi_head.bbox_roi_extractor.roi_layer.output_size = [7, 5]: only squares have a counterpart",
    ]


def test_regions_of_every_level() -> None:
    keys = {"type": "GenericRoIExtractor", "aggregation": "concat"}
    found = stage(extractor=keys)["extractor"]
    assert found == {"type": "GenericRoIExtractor", "roi_size": 7, "aggregation": "concat"}
    told = read(extractor={**keys, "pre_cfg": {"type": "ConvModule"}})[2]
    assert told == [
        "roi_head.bbox_roi_extractor.pre_cfg = {'type': 'ConvModule'}: only None has a counterpart",
    ]


@pytest.mark.parametrize(
    ("box", "ours", "names"),
    [
        (
            {"type": "Shared4Conv1FCBBoxHead", "norm_cfg": GN, "conv_out_channels": 64},
            {"conv_channels": 64, "norm": GN},
            {
                "shared.convs.3.conv.weight": "shared_convs.3.conv.weight",
                "shared.convs.0.norm.bias": "shared_convs.0.gn.bias",
                "shared.fcs.0.weight": "shared_fcs.0.weight",
                "box.weight": "fc_reg.weight",
            },
        ),
        (
            {"type": "ConvFCBBoxHead", "num_shared_convs": 1, "num_cls_fcs": 2, "num_reg_convs": 1, "norm_cfg": {"type": "BN"}},
            {
                "shared_convs": 1, "shared_fcs": 0, "cls_convs": 0, "cls_fcs": 2, "box_convs": 1, "box_fcs": 0,
                "norm": {"type": "BN"},
            },
            {
                "cls_path.fcs.1.bias": "cls_fcs.1.bias",
                "box_path.convs.0.conv.weight": "reg_convs.0.conv.weight",
                "box_path.convs.0.norm.running_var": "reg_convs.0.bn.running_var",
                "cls.bias": "fc_cls.bias",
            },
        ),
        (
            {"type": "BBoxHead", "with_avg_pool": True},
            {"shared_convs": 0, "shared_fcs": 0, "pool": True},
            {"cls.weight": "fc_cls.weight", "box.bias": "fc_reg.bias"},
        ),
    ],
)  # fmt: skip
def test_box_heads(box: dict[str, Any], ours: dict[str, Any], names: dict[str, str]) -> None:
    table, part, told = read(box=box)
    assert told == []
    assert table["stages"][0]["box_head"] == {"type": "ConvFCBoxHead", **ours}
    found = {name: part.foreign_name(f"stages.0.box_head.{name}") for name in names}
    assert found == {ours: f"roi_head.bbox_head.{theirs}" for ours, theirs in names.items()}


# ------------------------------------------------------------------------------------------------- a stage on each region

FROZEN = {"type": "BN", "requires_grad": False}
C4: dict[str, Any] = {
    "type": "FasterRCNN",
    "backbone": {
        "type": "ResNet", "depth": 50, "num_stages": 3, "strides": (1, 2, 2), "dilations": (1, 1, 1), "out_indices": (2,),
        "frozen_stages": 1, "norm_cfg": FROZEN, "norm_eval": True, "style": "caffe",
    },
    "rpn_head": {
        "type": "RPNHead", "in_channels": 1024, "feat_channels": 64,
        "anchor_generator": {
            "type": "AnchorGenerator", "scales": [2, 4, 8, 16, 32], "ratios": [0.5, 1.0, 2.0], "strides": [16],
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder"},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True}, "loss_bbox": {"type": "L1Loss"},
    },
    "roi_head": {
        "type": "StandardRoIHead",
        "shared_head": {
            "type": "ResLayer", "depth": 50, "stage": 3, "stride": 2, "dilation": 1, "style": "caffe", "norm_cfg": FROZEN,
            "norm_eval": True,
        },
        "bbox_roi_extractor": {
            **EXTRACTOR, "out_channels": 1024, "featmap_strides": [16],
            "roi_layer": {"type": "RoIAlign", "output_size": 14, "sampling_ratio": 0},
        },
        "bbox_head": {
            "type": "BBoxHead", "with_avg_pool": True, "in_channels": 2048, "roi_feat_size": 7, "num_classes": 3,
            "loss_bbox": {"type": "L1Loss"},
        },
    },
    "train_cfg": {
        "rpn": {
            "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.7, "neg_iou_thr": 0.3, "min_pos_iou": 0.3},
            "sampler": {"type": "RandomSampler", "num": 256, "pos_fraction": 0.5},
            "allowed_border": -1, "pos_weight": -1, "debug": False,
        },
        "rpn_proposal": {"nms_pre": 100, "max_per_img": 4, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0},
        "rcnn": RCNN,
    },
    "test_cfg": {
        "rpn": {"nms_pre": 100, "max_per_img": 4, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0},
        "rcnn": {**TEST, "score_thr": 0.0},
    },
}  # fmt: skip


@attrs.frozen(eq=False)
class Root:
    model: Detector


def test_a_stage_behind_each_region_builds_trains_and_has_its_names(tmp_path: Path) -> None:
    """Faster R-CNN "C4": no neck, the backbone's last stage sees regions, and a mean over cells ends it."""
    found = translate(C4)
    assert not [*found.lost, *found.notes]
    path = tmp_path / "c4.toml"
    path.write_text(f"model = {spell(found.model, loadable=True)}\n")
    config = load(str(path), resolve_dist=lambda dist, path: Path(path))
    torch.manual_seed(0)
    model: Any = plan(config, discover(), Root).build("model", Flow().having("classes", num_classes=3))
    stage = model.roi_head.stages[0]
    assert (stage.extractor.extractor.strides, stage.extractor.out_channels, stage.extractor.roi_size) == (
        (16,),
        2048,
        7,
    )
    names = {found.part.foreign_name(name) for name in model.state_dict()}
    assert {name for name in names if name.startswith("roi_head.")} == {
        *(f"roi_head.bbox_head.fc_{each}.{kind}" for each in ("cls", "reg") for kind in ("weight", "bias")),
        *(f"roi_head.shared_head.{name}" for name in stage.extractor.state_dict()),
    }
    assert "roi_head.shared_head.layer4.0.downsample.1.running_mean" in names
    size = torch.tensor([[64.0, 64.0]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    targets = Targets(torch.tensor([[[8.0, 8.0, 50.0, 40.0]]]), torch.ones(1, 1).long(), valid, ~valid)
    batch = Batch(torch.randn(1, 3, 64, 64), size, size, torch.ones(1, 2), [0], targets)
    total_loss(model.train().losses(batch)).backward()
    assert all(each.grad is not None for each in model.parameters() if each.requires_grad)
    assert len(model.eval().detections(batch)[0])


def test_masks_behind_a_stage_of_their_own_are_listed() -> None:
    shared = {"type": "ResLayer", "depth": 50}
    told = read(shared_head=shared, mask_head={"type": "FCNMaskHead", "num_convs": 0})[2]
    assert "roi_head.mask_roi_extractor = None: masks have an extractor of their own here" in told
