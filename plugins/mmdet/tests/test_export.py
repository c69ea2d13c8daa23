"""A checkpoint of ours goes back to MMDetection: what it is called there, the import or a config says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from detcore.catalog import IMPORTER, Catalog, Component, Entry
from detcore.errors import CheckpointError, ConfigError, UserError
from detcore.foreign import Foreign, Part
from detcore_mmdet import model as translation
from detcore_mmdet import read_checkpoint
from detcore_mmdet.export_command import export_mmdet


def net(table: Foreign) -> Part:
    return table.into("Net", (r"\bnorm\.", "bn."))


def head(table: Foreign) -> Part:
    table.wired("num_classes")
    network = table.into("Towers", (r"^cls\.", "conv_cls."))
    return table.into("Head", network=network, loss={"type": "Loss"}, assigner=table.part("assigner"))


TRANSLATIONS = {"Net": net, "Other": lambda table: table.into("OtherNet"), "Head": head, "A": lambda t: t.into("A")}
MODEL = {"type": "Any", "backbone": {"type": "Net"}, "bbox_head": {"type": "Head", "num_classes": 2}}
CONFIG = """
classes = ["a", "b"]
[model]
type = "OneStage"
backbone = { type = "Net" }
head = { type = "Head", network = { type = "detcore-mine/Towers" }, assigner = { type = "B" } }
"""
WEIGHTS = {
    "backbone.norm.weight": torch.arange(2.0),
    "backbone.conv.weight": torch.arange(6.0).reshape(2, 3).T,
    "head.network.cls.bias": torch.ones(3),
}


@pytest.fixture(autouse=True)
def _translations(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(Component(IMPORTER, "mmdet", f"{__name__}:TRANSLATIONS"), "here", "1", "here/here")
    monkeypatch.setattr(translation, "discover", lambda: Catalog([entry]))


Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Writes a checkpoint whose keys are given, exports it, and gives what was said."""

    def running(*options: str, meta: Any = None, **content: Any) -> str:
        usual = {"config": CONFIG, "classes": ["a", "b"], "mmdet": {"model": json.dumps(MODEL)}}
        torch.save({"model": WEIGHTS, "meta": usual if meta is None else meta, **content}, tmp_path / "our.pt")
        arguments = [str(tmp_path / "our.pt"), "-o", str(tmp_path / "out" / "their.pth"), *options]
        done = CliRunner().invoke(export_mmdet, arguments)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return running


def test_what_is_written_is_plain_and_called_as_there(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out" / "their.pth"
    assert run() == f"{path}: 3 tensors under MMDetection's names\n"
    content = torch.load(path, weights_only=True)
    assert [*content] == ["state_dict", "meta"]
    assert content["meta"] == {"dataset_meta": {"classes": ["a", "b"]}, "CLASSES": ["a", "b"]}
    assert [*content["state_dict"]] == ["backbone.bn.weight", "backbone.conv.weight", "bbox_head.conv_cls.bias"]
    for value, ours in zip(content["state_dict"].values(), WEIGHTS.values(), strict=True):
        assert torch.equal(value, ours)
    again = read_checkpoint(path)
    assert (again.classes, [*again.state]) == (["a", "b"], [*content["state_dict"]])


def test_averaged_weights_are_those_that_go(run: Run, tmp_path: Path) -> None:
    averaged = {name: value + 1 for name, value in WEIGHTS.items()}
    assert "3 averaged tensors" in run(averaged=averaged)
    found = read_checkpoint(tmp_path / "out" / "their.pth").state
    assert torch.equal(found["bbox_head.conv_cls.bias"], torch.full((3,), 2.0))


def test_a_config_says_it_where_no_import_did(run: Run, tmp_path: Path) -> None:
    (tmp_path / "theirs.json").write_text(json.dumps({"model": {**MODEL, "bbox_head": {"type": "Head"}}}))
    meta = {"config": CONFIG, "classes": ["a", "b"]}
    assert "3 tensors" in run("--config", str(tmp_path / "theirs.json"), meta=meta)


def test_a_part_without_weights_may_be_another_than_there(run: Run) -> None:
    """Whoever trains on may take another assigner or loss."""
    model = {**MODEL, "bbox_head": {"type": "Head", "num_classes": 2, "assigner": {"type": "A"}}}
    meta = {"config": CONFIG, "classes": ["a", "b"], "mmdet": {"model": json.dumps(model)}}
    assert "3 tensors" in run(meta=meta)


def test_a_checkpoint_without_classes_says_none(run: Run, tmp_path: Path) -> None:
    run(meta={"config": CONFIG, "mmdet": {"model": json.dumps(MODEL)}})
    assert torch.load(tmp_path / "out" / "their.pth", weights_only=True)["meta"] == {}


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (
            {"config": CONFIG},
            "our.pt: does not say what it is called in MMDetection: import-mmdet has not written it. "
            "Give MMDetection's config of the model: --config CONFIG.py.",
        ),
        ({"config": CONFIG, "mmdet": {}}, "our.pt: meta.mmdet.model is no JSON: KeyError: 'model'"),
        ({"config": CONFIG, "mmdet": {"model": "{"}}, "our.pt: meta.mmdet.model is no JSON: JSONDecodeError: "),
        ({"config": CONFIG, "mmdet": {"model": "[]"}}, "our.pt: meta.mmdet.model: is no table of a model"),
        ({"mmdet": {"model": json.dumps(MODEL)}}, "our.pt: carries no config"),
        (
            {"config": CONFIG, "mmdet": {"model": json.dumps({**MODEL, "backbone": {"type": "Other"}})}},
            "our.pt: its model.backbone is Net, that of the config is OtherNet. "
            "Give the config of MMDetection that says the same model.",
        ),
        (
            {"config": CONFIG.replace(", network", ", tower"), "mmdet": {"model": json.dumps(MODEL)}},
            "our.pt: its model.head.network is missing, that of the config is Towers.",
        ),
        (
            {"config": CONFIG, "classes": ["a"], "mmdet": {"model": json.dumps(MODEL)}},
            "our.pt: has 1 classes, the model in MMDetection 2",
        ),
    ],
)
def test_what_cannot_go_is_told(run: Run, tmp_path: Path, meta: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        run(meta=meta)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_config_without_a_model_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "theirs.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"theirs\.json: model: is no table of a model"):
        run("--config", str(tmp_path / "theirs.json"))


def test_a_file_that_is_there_stays_unless_forced(run: Run, tmp_path: Path) -> None:
    run()
    before = (tmp_path / "out" / "their.pth").read_bytes()
    with pytest.raises(CheckpointError, match=r"is there already\. Name another file, or give --force\."):
        run(model={name: value + 1 for name, value in WEIGHTS.items()})
    assert (tmp_path / "out" / "their.pth").read_bytes() == before
    assert "3 tensors" in run("--force")


def test_a_place_that_cannot_be_written_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(CheckpointError, match=r"their\.pth: cannot be written: "):
        run()


def test_help_imports_no_torch() -> None:
    code = "import sys, detcore_mmdet.export_command; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
