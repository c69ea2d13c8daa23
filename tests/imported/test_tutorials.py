"""Configs of 2.x as people write them, each from its file to one of ours that core checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from detcore import load_config
from detcore_mmdet.importing import run

CONFIGS = Path(__file__).parent / "configs_2x"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imported")


def imported(name: str, folder: Path, **options: Any) -> tuple[dict[str, Any], str]:
    """The table of an imported config, which passes ``core-run check``, and what was said."""
    outcome = run(CONFIGS / f"{name}.py", None, folder / name, **options)
    said = "\n".join(outcome.lines)
    assert outcome.passes, said
    assert "written, and core-run check finds no problem" in said
    table: Any = load_config(str(outcome.config)).table.plain()
    return table, said


def test_litter_with_faster_rcnn(folder: Path) -> None:
    table, said = imported("trash_r50", folder, processes=1)
    assert (len(table["classes"]), table["classes"][0], table["seed"]) == (10, "General trash", 2021)
    assert (table["train"]["batch_size"], table["train"]["clip_grad"], table["train"]["keep"]) == (4, 35.0, 3)
    assert "base_batch_size" not in table["train"]
    assert table["train"]["dataset"]["annotations"] == "dataset/train.json"
    assert table["val"]["transforms"] == [{"type": "RandomChoiceResize", "sizes": [[512, 512]], "antialias": False}]
    assert table["optimizer"] == {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4}
    assert "0 otherwise, 0 without counterpart" in said
    assert "gpu_ids" in said


def test_litter_with_resnext(folder: Path) -> None:
    table, said = imported("trash_x101", folder)
    backbone = table["model"]["backbone"]
    assert {key: backbone[key] for key in ("type", "depth", "groups", "base_width")} == {
        "type": "ResNet",
        "depth": 101,
        "groups": 64,
        "base_width": 4,
    }
    assert 'download it and write weights = { from = "resnext101_64x4d.pth" }' in said
    assert table["train"]["batch_size"] == 4


def test_fcos(folder: Path) -> None:
    table, _ = imported("fcos", folder)
    assert table["preprocess"]["mean"] == [102.9801, 115.9465, 122.7717]
    assert (table["preprocess"]["color"], table["preprocess"]["std"]) == ("bgr", [1.0, 1.0, 1.0])
    assert table["params"]["bias"] == {"kind": "bias", "lr": 2.0, "weight_decay": 0.0}
    assert table["schedule"] == [
        {"type": "Constant", "factor": 1 / 3, "end": 500, "unit": "steps"},
        {"type": "MultiStep", "epochs": [8, 11]},
    ]


def test_yolox_with_another_backbone(folder: Path) -> None:
    table, said = imported("yolox_shufflenet", folder)
    assert table["model"]["backbone"]["type"] == "ShuffleNetV2"
    assert table["model"]["head"]["loss"]["l1_from"] == 0.85
    assert table["callbacks"]["sizes"] == {"type": "BatchSyncRandomResize", "random_size_range": [320, 640]}
    assert table["preprocess"]["size"] == [416, 416]
    assert [each["type"] for each in table["train"]["transforms"][:3]] == ["Mosaic", "YOLOXRandomAffine", "MixUp"]
    assert table["schedule"][2] == {"type": "Cosine", "begin": 5, "end": 85, "end_factor": 0.05}
    assert table["train"]["dataset"].get("keep_empty") is None
    assert "equal distances" in said


def test_mask_rcnn_whose_backbone_is_deleted(folder: Path) -> None:
    table, _ = imported("mask_hrnet", folder)
    assert (table["model"]["backbone"]["type"], table["model"]["neck"]["type"]) == ("HRNet", "HRFPN")
    assert table["model"]["roi_head"]["branches"]["mask"]["type"] == "MaskBranch"
    assert table["train"]["dataset"]["segmentation"] == "polygons"
    assert table["val"]["evaluator"]["metrics"] == ["bbox", "segm"]
    assert table["train"]["transforms"][0]["sizes"] == [[640, 1333], [800, 1333]]
