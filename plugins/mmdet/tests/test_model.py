"""MMDetection's model table as a whole: parts found by their keys, weights, preprocessing, and what is listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from detcore.catalog import IMPORTER, Catalog, Component, Entry
from detcore.errors import CheckpointError, PluginError
from detcore.foreign import Foreign, Part
from detcore_mmdet import from_mmdet, to_mmdet, translate


def resnet(table: Foreign) -> Part:
    table.get("init_cfg")
    return table.into("Net", (r"\.norm\.", ".bn."), **table.keep(depth="depth"), norm=table.part("norm_cfg"))


def head(table: Foreign) -> Part:
    table.wired("num_classes")
    return table.into("Head", absent=("anchors",), threshold=table.table("test_cfg").get("score_thr"))


def roi_head(table: Foreign) -> Part:
    thresholds = [stage.get("iou") for stage in table.get("stages")]
    return table.into("RoI", thresholds=thresholds, score=table.table("test_cfg").get("score_thr"))


TRANSLATIONS = {"Net": resnet, "Head": head, "Neck": lambda table: table.into("Neck"), "RoI": roi_head}
MODEL: dict[str, Any] = {
    "type": "AnyDetector",
    "backbone": {"type": "Net", "depth": 50},
    "bbox_head": {"type": "Head", "num_classes": 3},
    "test_cfg": {"score_thr": 0.05},
}


def catalog(*targets: str) -> Catalog:
    found = targets or ("detcore_mmdet.layers:TRANSLATIONS", f"{__name__}:TRANSLATIONS")
    return Catalog(Entry(Component(IMPORTER, "mmdet", target), "here", "1", "here/here") for target in found)


def test_a_detector_is_what_its_parts_make_it() -> None:
    one = translate(MODEL, catalog())
    assert one.model == {
        "type": "OneStage",
        "backbone": {"type": "Net", "depth": 50},
        "head": {"type": "Head", "threshold": 0.05},
    }
    assert (one.num_classes, one.lost, one.notes, one.preprocess) == (3, [], [], {})
    model = {key: value for key, value in MODEL.items() if key != "bbox_head"}
    two = translate(
        {
            **model,
            "neck": [{"type": "Neck"}, {"type": "Neck"}],
            "roi_head": {"type": "RoI"},
            "train_cfg": {"rcnn": [{"iou": 0.5}, {"iou": 0.6}]},
            "test_cfg": {"rcnn": {"score_thr": 0.1}},
        },
        catalog(),
    )
    assert two.lost == []
    assert two.model == {
        "type": "TwoStage",
        "backbone": {"type": "Net", "depth": 50},
        "neck": [{"type": "Neck"}, {"type": "Neck"}],
        "rpn_head": {"type": "GivenProposals"},
        "roi_head": {"type": "RoI", "thresholds": [0.5, 0.6], "score": 0.1},
    }


@pytest.mark.parametrize(
    ("norm", "ours"),
    [
        ({"type": "BN", "requires_grad": True}, {"type": "BN"}),
        ({"type": "BN", "requires_grad": False, "eps": 1e-3}, {"type": "BN", "frozen": True, "eps": 1e-3}),
        ({"type": "SyncBN", "momentum": 0.03}, {"type": "SyncBN", "momentum": 0.03}),
        ({"type": "GN", "num_groups": 16}, {"type": "GN", "num_groups": 16}),
        ({"type": "LN"}, {"type": "LN", "eps": 1e-5}),
    ],
)
def test_norms(norm: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    found = translate({**MODEL, "backbone": {"type": "Net", "norm_cfg": norm}}, catalog())
    assert found.lost == []
    assert found.model["backbone"]["norm"] == ours


@pytest.mark.parametrize("name", ["GN", "LN"])
def test_a_norm_that_cannot_be_frozen_here_is_listed(name: str) -> None:
    norm = {"type": name, "requires_grad": False}
    (lost,) = translate({**MODEL, "backbone": {"type": "Net", "norm_cfg": norm}}, catalog()).lost
    assert (lost.path, lost.value) == ("model.backbone.norm_cfg.requires_grad", False)


@pytest.mark.parametrize(
    ("checkpoint", "weights", "noted"),
    [
        ("torchvision://resnet50", "torchvision://resnet50/IMAGENET1K_V1", 0),
        ("https://example.com/x.pth", {"from": "https://example.com/x.pth"}, 0),
        ("open-mmlab://detectron2/resnet50_caffe", None, 1),
    ],
)
def test_weights_of_the_backbone(checkpoint: str, weights: Any, noted: int) -> None:
    backbone = {"type": "Net", "init_cfg": {"type": "Pretrained", "checkpoint": checkpoint}}
    for model in ({**MODEL, "backbone": backbone}, {**MODEL, "pretrained": checkpoint}):
        found = translate(model, catalog())
        assert found.model["backbone"].get("weights") == weights
        assert (found.lost, len(found.notes)) == ([], noted)


def test_preprocessing() -> None:
    settings = {"type": "DetDataPreprocessor", "mean": [1, 2, 3], "std": [4, 5, 6], "pad_size_divisor": 32}
    found = translate({**MODEL, "data_preprocessor": {**settings, "bgr_to_rgb": True}}, catalog())
    assert found.preprocess == {"mean": [1, 2, 3], "std": [4, 5, 6], "divisor": 32, "color": "rgb"}
    assert translate({**MODEL, "data_preprocessor": settings}, catalog()).preprocess["color"] == "bgr"
    assert translate({**MODEL, "data_preprocessor": {"mean": [1, 2, 3]}}, catalog()).preprocess["divisor"] == 1
    batches = {**settings, "batch_augments": [{"type": "Fog"}]}
    (lost,) = translate({**MODEL, "data_preprocessor": batches}, catalog()).lost
    assert str(lost) == "model.data_preprocessor.batch_augments.0 = 'Fog': no installed plugin translates it"


def test_what_is_not_translated_is_listed_and_the_rest_goes_on() -> None:
    found = translate({**MODEL, "neck": {"type": "NASFPN"}, "mystery": 1, "bbox_head": None}, catalog())
    assert [str(each) for each in found.lost] == [
        "model.neck = 'NASFPN': no installed plugin translates it",
        "model.mystery = 1: has no counterpart",
        "model.test_cfg.score_thr = 0.05: has no counterpart",
    ]
    assert found.model == {"type": "OneStage", "backbone": {"type": "Net", "depth": 50}}


def test_heads_of_different_numbers_of_classes_are_noted() -> None:
    second = {"type": "RoI", "stages": [], "bbox_head": {"type": "Head", "num_classes": 4}}
    model = {**MODEL, "neck": [{"type": "Head", "num_classes": 4}], "spare": second}
    found = translate(model, catalog())
    assert found.num_classes is None
    assert "different numbers of classes: [3, 4]" in str(found.notes[0])


def test_two_plugins_that_translate_the_same_are_an_error() -> None:
    with pytest.raises(PluginError, match="translates Head, Neck, Net, RoI, as another plugin does"):
        translate(MODEL, catalog(f"{__name__}:TRANSLATIONS", f"{__name__}:TRANSLATIONS"))


def test_tensors_go_there_and_back_and_none_is_lost_in_silence() -> None:
    part = translate(MODEL, catalog()).part
    ours = {"backbone.a.norm.weight": torch.ones(2), "head.scale": torch.zeros(1)}
    theirs = to_mmdet(ours, part)
    assert [*theirs] == ["backbone.a.bn.weight", "bbox_head.scale"]
    assert from_mmdet({**theirs, "bbox_head.anchors": torch.ones(1)}, ours, part) == ours
    with pytest.raises(CheckpointError, match=r"1 extra \(bbox_head\.other\) tensors"):
        from_mmdet({**theirs, "bbox_head.other": torch.ones(1)}, ours, part)
    with pytest.raises(CheckpointError, match=r"1 missing \(bbox_head\.scale\) tensors"):
        from_mmdet({"backbone.a.bn.weight": torch.ones(2)}, ours, part)
    with pytest.raises(CheckpointError, match="two tensors have one name"):
        to_mmdet({"backbone.a.norm.weight": torch.ones(2), "backbone.a.bn.weight": torch.ones(2)}, part)
