"""Every config of the mmdet 3.3.0 wheel, read; and the tables of the golden cases, found in them again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from detcore.errors import ConfigError
from detcore_mmdet.reading import read_config
from detcore_mmdet.reading.files import CONFIGS, PACKAGE, installed

pytestmark = pytest.mark.zoo
SHARED = Path(__file__).parents[5] / "shared"
GOLDEN = Path(os.environ.get("DETCORE_TEST_GOLDEN", SHARED / "golden"))

REFUSED = {
    "bytetrack/bytetrack_yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain_test-mot17test.py": "there is no file",
    "glip/odinw/override_category.py": ":7: a function is not read",
    "grounding_dino/odinw/override_category.py": ":7: a function is not read",
    "mm_grounding_dino/odinw/override_category.py": ":7: a function is not read",
    "rtmdet/classification/cspnext-l_8xb256-rsb-a1-600e_in1k.py": "mmpretrain",
    "rtmdet/classification/cspnext-m_8xb256-rsb-a1-600e_in1k.py": "mmpretrain",
    "rtmdet/classification/cspnext-s_8xb256-rsb-a1-600e_in1k.py": "mmpretrain",
    "rtmdet/classification/cspnext-tiny_8xb256-rsb-a1-600e_in1k.py": "mmpretrain",
    "rtmdet/classification/cspnext-x_8xb256-rsb-a1-600e_in1k.py": "mmpretrain",
    "sort/faster-rcnn_r50_fpn_8xb2-4e_mot17train_test-mot17train.py": "there is no file",
    "sort/faster-rcnn_r50_fpn_8xb2-8e_mot20halftrain_test-mot20halfval.py": "there is no file",
    "sort/faster-rcnn_r50_fpn_8xb2-8e_mot20train_test-mot20train.py": "there is no file",
}
"""What of the wheel is not read: configs whose bases it does not have, and scripts. MMEngine reads neither kind."""


@pytest.fixture(scope="module")
def zoo() -> Path:
    """The folder of configs: ``DETCORE_TEST_ZOO``, else of the mmdet that is installed."""
    given = os.environ.get("DETCORE_TEST_ZOO")
    folders = [Path(given)] if given else list(installed(PACKAGE, CONFIGS))
    if not folders:
        pytest.skip("mmdet is not installed, and DETCORE_TEST_ZOO names no folder of its configs")
    return folders[0]


def test_every_config_is_read_or_refused_in_a_line(zoo: Path) -> None:
    said: dict[str, str] = {}
    files = sorted(zoo.rglob("*.py"))
    for file in files:
        try:
            config = read_config(file, roots=[zoo])
        except ConfigError as error:
            said[file.relative_to(zoo).as_posix()] = str(error)
            continue
        assert all(isinstance(key, str) for key in config), file
        json.dumps(config)  # of plain values alone
    print(f"{len(files) - len(said)} of {len(files)} configs are read")
    for line in said.values():
        print(line)
    assert len(files) == 869
    assert said.keys() == REFUSED.keys()
    for name, line in said.items():
        assert REFUSED[name] in line
        assert len(line.splitlines()) == 1


def _cases(key: str) -> list[Any]:
    found = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(GOLDEN.glob("*.json"))]
    return [pytest.param(case, id=name) for name, case in found if "source" in case and key in case]


@pytest.mark.parametrize("case", _cases("model"))
def test_a_golden_model_is_the_read_one_but_for_what_is_documented(zoo: Path, case: dict[str, Any]) -> None:
    """As the README of the golden cases says: no weights, no dropout, three classes, samplers that take all, and
    fewer proposals."""
    model = _lists(read_config(zoo / case["source"])["model"])
    assert model.pop("data_preprocessor")["type"] == "DetDataPreprocessor"
    model["backbone"].pop("init_cfg", None)
    if "drop_path_rate" in model["backbone"]:
        model["backbone"]["drop_path_rate"] = 0.0
    _classes(model)
    if "roi_head" in model:
        train, test = model["train_cfg"], model["test_cfg"]
        stages = train["rcnn"] if isinstance(train["rcnn"], list) else [train["rcnn"]]
        for each in (train["rpn"], *stages):
            each["sampler"] |= {"num": 1_000_000, "neg_pos_ub": -1}
        train["rpn_proposal"] |= {"nms_pre": 300, "max_per_img": 150}
        test["rpn"] |= {"nms_pre": 200, "max_per_img": 150}
    assert model == case["model"]


@pytest.mark.parametrize("case", _cases("pipeline"))
def test_a_golden_pipeline_is_the_read_one(zoo: Path, case: dict[str, Any]) -> None:
    """But for the size of the images; annotations are not loaded there, and no batch is resized in training."""
    config = _lists(read_config(zoo / case["source"]))
    steps = [each for each in config["test_pipeline"] if each["type"] != "LoadAnnotations"]
    assert steps[0].pop("backend_args") is None
    resize = next(each for each in case["pipeline"] if each["type"] == "Resize")
    next(each for each in steps if each["type"] == "Resize")["scale"] = resize["scale"]
    assert steps == case["pipeline"]
    config["model"]["data_preprocessor"].pop("batch_augments", None)
    assert config["model"]["data_preprocessor"] == case["data_preprocessor"]


def _lists(value: Any) -> Any:
    """The value as JSON has it."""
    return json.loads(json.dumps(value))


def _classes(value: Any) -> None:
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _classes(each)
    if isinstance(value, dict) and "num_classes" in value:
        value["num_classes"] = 3
