"""Mask heads in MMDetection's words: what is taken over, what is listed, how tensors are called."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_roi.mmdet import TRANSLATIONS

EXTRACTOR = {"type": "SingleRoIExtractor", "out_channels": 256, "featmap_strides": [4, 8, 16, 32]}
MASK_EXTRACTOR = {**EXTRACTOR, "roi_layer": {"type": "RoIAlign", "output_size": 14, "sampling_ratio": 0}}
MASK_HEAD: dict[str, Any] = {"type": "FCNMaskHead", "num_classes": 3, "in_channels": 256, "roi_feat_size": 14}
HEAD: dict[str, Any] = {
    "type": "StandardRoIHead",
    "bbox_roi_extractor": EXTRACTOR,
    "bbox_head": {"type": "Shared2FCBBoxHead", "loss_bbox": {"type": "L1Loss"}},
    "mask_roi_extractor": MASK_EXTRACTOR,
    "mask_head": MASK_HEAD,
    "stages": [{"mask_size": 28}],
    "test_cfg": {"mask_thr_binary": 0.5},
}


CASCADE: dict[str, Any] = {"type": "CascadeRoIHead", "num_stages": 2, "stages": [{}, {}], "stage_loss_weights": [1, 1]}


def named(table: Foreign) -> Part:
    return table.into(table.get("type"), **{key: table.get(key) for key in ("use_mask", "num_groups") if key in table})


def read(**keys: Any) -> tuple[Part, list[str]]:
    """The RoI head and all that is told of it; a key that is None is left out."""
    others = ("L1Loss", "CrossEntropyLoss", "DeltaXYWHBBoxCoder", "GN", "SyncBN")
    log = Log({**TRANSLATIONS, **dict.fromkeys(others, named)})
    values: dict[str, Any] = {key: value for key, value in {**HEAD, **keys}.items() if value is not None}
    train, test = values.pop("stages"), Foreign(values.pop("test_cfg"), "test_cfg", log)
    stages = [Foreign(each, "train_cfg.rcnn", log) for each in train]
    table = Foreign(values, "roi_head", log, "roi_head")
    part = table.translated(stages=stages, test_cfg=test)
    rest = (each for of in (table, test, *stages) for each in of.unread())
    told = (str(each) for each in (*log.lost, *log.notes, *rest))
    return part, [each for each in told if "mask" in each]


def test_what_is_not_said_is_as_there() -> None:
    part, told = read(stages=[{}], test_cfg={})
    assert told == []
    assert part.plain["branches"] == {
        "mask": {
            "type": "MaskBranch",
            "extractor": {"type": "SingleLevelRoIExtractor", "roi_size": 14},
            "mask_head": {"type": "FCNMaskHead"},
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True},
        }
    }


def test_what_is_said() -> None:
    norm = {"type": "GN", "num_groups": 8}
    part, told = read(
        mask_roi_extractor={**MASK_EXTRACTOR, "featmap_strides": [4, 8]},
        mask_head={**MASK_HEAD, "num_convs": 2, "conv_out_channels": 64, "class_agnostic": True, "norm_cfg": norm},
    )
    assert told == []
    mask = part.plain["branches"]["mask"]
    assert mask["mask_head"] == {"type": "FCNMaskHead", "num_convs": 2, "conv_channels": 64, "norm": norm}
    assert (mask["class_agnostic"], mask["num_levels"]) == (True, 2)


def test_without_masks_there_is_no_branch() -> None:
    part, told = read(mask_head=None, mask_roi_extractor=None, stages=[{}], test_cfg={})
    assert told == []
    assert "branches" not in part.plain


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stages": [{"mask_size": 56}]}, "mask_size = 56: only 28 has a counterpart"),
        ({"test_cfg": {"mask_thr_binary": -1}}, "test_cfg.mask_thr_binary = -1: only 0.5 has a counterpart"),
        ({"mask_roi_extractor": None}, "mask_roi_extractor = None: masks have an extractor of their own here"),
        (
            {"mask_head": {**MASK_HEAD, "upsample_cfg": {"type": "carafe"}}},
            "mask_head.upsample_cfg = {'type': 'carafe'}: only {'type': 'deconv', 'scale_factor': 2} has a counterpart",
        ),
        ({"mask_head": {**MASK_HEAD, "conv_kernel_size": 5}}, "mask_head.conv_kernel_size = 5: only 3 has a counterpart"),
        ({"mask_head": {"type": "CoarseMaskHead"}}, "mask_head = 'CoarseMaskHead': no installed plugin translates it"),
        (
            {**CASCADE, "mask_head": [MASK_HEAD]},
            "mask heads, extractors and stages are 1, 2 and 2",
        ),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_listed(change: dict[str, Any], told: str) -> None:
    assert any(told in each for each in read(**change)[1])


@pytest.mark.parametrize(
    ("norm", "ours", "theirs"),
    [
        (None, "convs.3.conv.weight", "convs.3.conv.weight"),
        ("GN", "convs.0.norm.weight", "convs.0.gn.weight"),
        ("SyncBN", "convs.0.norm.running_var", "convs.0.bn.running_var"),
        (None, "upsample.bias", "upsample.bias"),
        (None, "logits.weight", "conv_logits.weight"),
    ],
)
def test_names_of_tensors(norm: str | None, ours: str, theirs: str) -> None:
    part, _ = read(mask_head={**MASK_HEAD, **({"norm_cfg": {"type": norm}} if norm else {})})
    assert part.foreign_name(f"branches.mask.mask_head.{ours}") == f"roi_head.mask_head.{theirs}"


def test_stages_of_a_cascade_have_a_branch_each() -> None:
    heads = [MASK_HEAD, {**MASK_HEAD, "num_convs": 2}]
    part, told = read(**{**CASCADE, "stages": [{"mask_size": 28}] * 2}, mask_head=heads)
    assert told == []
    assert "branches" not in part.plain
    masks = [each["branches"]["mask"]["mask_head"] for each in part.plain["stages"]]
    assert masks == [{"type": "FCNMaskHead"}, {"type": "FCNMaskHead", "num_convs": 2}]
    ours = "stages.1.branches.mask.mask_head.logits.weight"
    assert part.foreign_name(ours) == "roi_head.mask_head.1.conv_logits.weight"


def test_one_mask_head_stands_for_those_of_all_stages() -> None:
    part, told = read(**CASCADE)
    assert told == []
    first, second = (each["branches"] for each in part.plain["stages"])
    assert first == second
    assert first["mask"]["extractor"] == {"type": "SingleLevelRoIExtractor", "roi_size": 14}
