"""The whole story with a local module of toy components: no plugin is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore import load_config, load_dataset, load_detector, run
from detcore.cli import main
from detcore.errors import UserError

TOY = Path(__file__).with_name("toy_plugin.py")
CONFIG = """
classes = ["red", "green"]
[plugins]
local = ["PLUGIN"]
[model]
type = "OneStage"
backbone = { type = "ToyBackbone" }
head = { type = "ToyHead" }
[train]
dataset = { type = "ToyDataset" }
epochs = 3
batch_size = 4
transforms = [{ type = "RandomHorizontalFlip" }]
[val]
dataset = { type = "ToyDataset", length = 6 }
evaluator = { type = "ToyEvaluator" }
batch_size = 2
[optimizer]
type = "SGD"
lr = 0.1
[[schedule]]
type = "LinearWarmup"
steps = 2
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(CONFIG.replace("PLUGIN", TOY.as_posix()))
    return "toy.toml"


def weights(path: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return model


def test_training_writes_a_checkpoint_that_evaluates_to_the_same_metrics(config: str) -> None:
    metrics = run.train(config, work_dir="out")
    assert run.evaluate(config, "out/checkpoints/last.pt") == metrics
    begins = ['model.backbone.weights={from="nowhere.pth"}']  # which the checkpoint replaces: nobody looks for them
    assert run.evaluate(config, "out/checkpoints/last.pt", sets=begins) == metrics
    assert set(metrics) == {"accuracy"}


def test_each_run_has_a_folder_of_its_own(config: str) -> None:
    run.train(config)
    (folder,) = Path("runs/toy").iterdir()
    assert (folder / "checkpoints" / "last.pt").is_file()
    kinds = [json.loads(line)["kind"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert kinds.count("validation") == 3


def test_the_same_seed_gives_the_same_weights_and_another_does_not(config: str) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        run.train(config, sets=[f"seed={seed}"], work_dir=folder)
    a, b, c = (weights(Path(folder, "checkpoints/last.pt")) for folder in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_resume_auto_goes_on_where_the_newest_run_of_the_config_stopped(config: str) -> None:
    run.train(config, work_dir="whole")
    run.train(config, sets=["train.epochs=2"])
    run.train(config, resume="auto")
    (folder,) = Path("runs/toy").iterdir()
    resumed, whole = weights(folder / "checkpoints/last.pt"), weights(Path("whole/checkpoints/last.pt"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_the_checkpoint_carries_config_classes_and_plugins(config: str) -> None:
    run.train(config, work_dir="out")
    meta = torch.load("out/checkpoints/last.pt", weights_only=True)["meta"]
    assert meta["classes"] == ["red", "green"]
    assert "detcore" in meta["plugins"]
    Path("again.toml").write_text(meta["config"])
    assert load_config("again.toml").table == load_config(config).table


def test_scripts_load_datasets_and_detectors(config: str) -> None:
    run.train(config, work_dir="out")
    assert len(load_dataset(config, "train")) == 8
    detector = load_detector(config, "out/checkpoints/last.pt", device="cpu")
    assert not detector.training
    assert torch.equal(
        detector.detector.state_dict()["head.cls.weight"], weights(Path("out/checkpoints/last.pt"))["head.cls.weight"]
    )


def test_check_wires_the_model_and_touches_no_data(config: str) -> None:
    assert run.check(config, sets=["train.dataset.length=0"]) == [f"{config}: no problem found"]


def test_without_classes_the_data_names_them(config: str) -> None:
    assert run.train(config, sets=["classes={_delete_=true}"], work_dir="out").keys() == {"accuracy"}
    assert "not verified: channels" in run.check(config, sets=["classes={_delete_=true}"])[0]


MISTAKES = {
    "no model": (["model={_delete_=true}"], "toy.toml: says nothing of model. This command needs it."),
    "no data": (["train={_delete_=true}"], "toy.toml: says nothing of train."),
    "an empty dataset": (["train.dataset.length=0"], "toy.toml: train.dataset: has no image"),
    "a device that is not there": (["device=warp"], 'option --set device=warp: device: "warp" cannot be used'),
    "a batch size of another type": (["train.batch_size=true"], "train.batch_size: found true, wanted int"),
    "a contradicting number of classes": (
        ["model.head.num_classes=3"],
        "model.head.num_classes: 3 given to dense_head ToyHead",
    ),
}


@pytest.mark.parametrize(("sets", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_and_exit_code_2(
    config: str, sets: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options: list[str] = [part for each in sets for part in ("--set", each)]
    assert exit_code([config, *options]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


def exit_code(arguments: list[str]) -> int:
    try:
        code: Any = main(arguments)
    except SystemExit as stop:
        code = stop.code
    return int(code or 0)


def test_a_checkpoint_of_other_classes_or_another_width_is_refused(config: str) -> None:
    run.train(config, work_dir="out")
    with pytest.raises(UserError, match="config and checkpoint have different classes: only config has a, b"):
        run.evaluate(config, "out/checkpoints/last.pt", sets=['classes=["a", "b"]'])
    with pytest.raises(UserError, match=r"is of another architecture: loaded 2 tensors \(.* % of the parameters\)"):
        run.evaluate(config, "out/checkpoints/last.pt", sets=["model.backbone.width=16"])


@pytest.mark.parametrize("meta", [None, {"classes": ("red", "green")}, {"other": 1}])
def test_a_checkpoint_of_another_kind_is_refused_in_one_line(config: str, meta: object) -> None:
    torch.save({"meta": meta, "model": {0: torch.ones(1)}}, "odd.pt")
    with pytest.raises(UserError, match=r"odd\.pt: nothing in it fits OneStage"):
        run.evaluate(config, "odd.pt")


def test_a_missing_checkpoint_is_said(config: str) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pt: does not exist"):
        run.evaluate(config, "nowhere.pt")
    with pytest.raises(UserError, match="holds no checkpoint to resume from"):
        run.train(config, resume="auto")


def test_the_schema_accepts_the_keys_of_a_config() -> None:
    schema = run.schema()
    assert {"model", "train", "val", "optimizer", "schedule", "classes", "_base_"} <= set(schema["properties"])
    one_stage = next(
        each
        for each in schema["$defs"]["detector"]["anyOf"]
        if "OneStage" in str(each.get("properties", {}).get("type"))
    )
    assert set(one_stage["properties"]) >= {"backbone", "neck", "head"}


def test_what_tells_of_a_run_by_default_is_replaced_by_name(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl = 'callbacks.jsonl={type="JsonlLog", file="numbers.jsonl"}'
    run.train(config, sets=[jsonl, 'callbacks.console={type="JsonlLog", file="again.jsonl"}'], work_dir="out")
    assert {path.name for path in Path("out").glob("*.jsonl")} == {"numbers.jsonl", "again.jsonl"}
    assert "left" not in capsys.readouterr().out
    run.train(config, sets=['callbacks.console={type="ConsoleLog"}'], work_dir="other")
    assert "left" in capsys.readouterr().out
