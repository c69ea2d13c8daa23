"""Every config of the mmdet 3.3.0 wheel, imported: the page of what comes over, and the golden cases' tensors."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from detcore import assemble
from detcore.plugins import discover
from detcore.runner.parameters import NORMS, factors
from detcore_mmdet.config import Imported, import_config
from detcore_mmdet.importing import read
from detcore_mmdet.reading.files import CONFIGS, PACKAGE, installed
from detcore_mmdet.writing import written

pytestmark = pytest.mark.zoo
ROOT = Path(__file__).parents[4]
GOLDEN = Path(os.environ.get("DETCORE_TEST_GOLDEN", ROOT.parent / "shared" / "golden"))
CATALOG = discover()


@pytest.fixture(scope="module")
def zoo() -> Path:
    """The folder of configs: ``DETCORE_TEST_ZOO``, else of the mmdet that is installed."""
    given = os.environ.get("DETCORE_TEST_ZOO")
    folders = [Path(given)] if given else list(installed(PACKAGE, CONFIGS))
    if not folders:
        pytest.skip("mmdet is not installed, and DETCORE_TEST_ZOO names no folder of its configs")
    return folders[0]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """``tools/zoo.py``."""
    spec = importlib.util.spec_from_file_location("detcore_zoo", ROOT / "tools" / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(zoo: Path, tool: ModuleType) -> Sequence[Any]:
    """What became of every config."""
    return [*tool.results(zoo)]


def test_the_page_says_what_is(results: Sequence[Any], tool: ModuleType) -> None:
    assert tool.page(results) == tool.PAGE.read_text("utf-8"), "run: python tools/zoo.py FOLDER --write"


def test_what_comes_over_whole_is_built(results: Sequence[Any]) -> None:
    whole = [each for each in results if each.found is not None and each.found.whole]
    assert len(whole) > 100
    assert {each.name: each.problem for each in whole if not each.builds} == {}


def _cases() -> list[Any]:
    found = [(path.stem, json.loads(path.read_text("utf-8"))) for path in sorted(GOLDEN.glob("*.json"))]
    return [pytest.param(case, id=name) for name, case in found if "state_dict" in case and "source" in case]


@pytest.mark.parametrize("case", _cases())
def test_a_golden_source_has_exactly_the_tensors_that_its_case_lists(
    case: dict[str, Any], zoo: Path, tool: ModuleType
) -> None:
    """Names through the import, and shapes; of three classes, as the cases have."""
    config = json.loads(json.dumps(read(zoo / case["source"], [zoo])))
    _three_classes(config["model"])
    for split in ("train_dataloader", "val_dataloader"):
        _leaf(config[split]["dataset"])["metainfo"] = {"classes": ["a", "b", "c"]}
    found: Imported = import_config(config, CATALOG)
    assert found.lacks == []
    shapes = tool.build(written(found.table, {}, []), found, CATALOG)
    theirs = {name: tuple(shape) for name, shape in case["state_dict"] if not found.part.dropped(name)}
    ours = {found.part.foreign_name(name): shape for name, shape in shapes.items()}
    assert ours == theirs


RULED = (
    "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "resnet_strikes_back/retinanet_r50-rsb-pre_fpn_1x_coco.py",
    "scratch/faster-rcnn_r50-scratch_fpn_gn-all_6x_coco.py",
    "swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py",
    "yolox/yolox_tiny_8xb8-300e_coco.py",
)
"""Configs with a ``paramwise_cfg``, each of another kind."""


@pytest.mark.parametrize("name", RULED)
def test_each_parameter_learns_and_decays_as_there(name: str, zoo: Path, tool: ModuleType, tmp_path: Path) -> None:
    """The rules of MMEngine, by the names of tensors there."""
    config = read(zoo / name, [zoo])
    found = import_config(config, CATALOG)
    path = tmp_path / "imported.toml"
    path.write_text(written(found.table, {}, []))
    with tool.unfilled():
        parts = assemble.build(*assemble.load(str(path)), "cpu", load_weights=False)
    ours = factors(parts.model, assemble.param_rules(parts.plan))
    norms = {path for path, module in parts.model.named_modules() if isinstance(module, NORMS)}
    said = config["optim_wrapper"]["paramwise_cfg"]
    assert ours == {
        name: factors_there(found.part.foreign_name(name), name.rpartition(".")[0] in norms, said) for name in ours
    }


def factors_there(name: str, is_norm: bool, said: dict[str, Any]) -> tuple[float, float]:
    """Factors of the learning rate and the decay: a custom key alone, the longest one, or what is said of its kind."""
    custom = said.get("custom_keys") or {}
    for key in sorted(sorted(custom), key=len, reverse=True):
        if key in name:
            return float(custom[key].get("lr_mult", 1)), float(custom[key].get("decay_mult", 1))
    is_bias = name.endswith("bias")
    rate = said.get("bias_lr_mult", 1) if is_bias and not is_norm else 1
    of_norms, of_biases = said.get("norm_decay_mult"), said.get("bias_decay_mult")
    decay = of_norms if is_norm and of_norms is not None else of_biases if is_bias and of_biases is not None else 1
    return float(rate), float(decay)


def _leaf(dataset: dict[str, Any]) -> dict[str, Any]:
    return _leaf(dataset["dataset"]) if "dataset" in dataset else dataset


def _three_classes(value: Any) -> None:
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _three_classes(each)
    if isinstance(value, dict) and "num_classes" in value:
        value["num_classes"] = 3
