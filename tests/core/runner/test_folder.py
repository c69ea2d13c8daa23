"""What a run leaves in its folder, whoever reads its data; how long it goes, what it keeps, and where it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from core.runner.server import server
from detcore import load_config, run
from detcore.errors import ConfigError
from detcore.loading import read

TOY = Path(__file__).parents[1] / "toy_plugin.py"
PLUGIN = '''
from detcore import Component, hookimpl
from detcore.interfaces import Callback, Evaluator
from detcore.report import Flaw
from toy_plugin import ToyDataset, ToyEvaluator


@hookimpl
def detcore_components():
    kinds = {"dataset": "Flawed", "evaluator": "Falling", "callback": "StopAt"}
    return [Component(kind, name, f"{__name__}:{name}") for kind, name in kinds.items()]


class Flawed(ToyDataset):
    """Says at once what is wrong with its file, and of every third image when it is read."""

    def __init__(self, *, length: int = 8, name: str = "train"):
        super().__init__(length=length, names=("red", "green"))
        self.name = name
        self.report = [Flaw(f"{name}.json", "is old", "kept", "old file")]

    def __getitem__(self, index):
        if index % 3 == 0:
            self.report.append(Flaw(f"{self.name}: image {index}", "is torn", "mended", "torn image"))
        image, target = super().__getitem__(index)
        return image, {**target, "dropped": int(index == 1)}


class Falling(ToyEvaluator):
    """Gets worse from one validation to the next, and counts them."""

    made = 0

    def compute(self):
        Falling.made += 1
        return {**super().compute(), "falls": 1 / Falling.made, "rises": Falling.made / 100}


class StopAt(Callback):
    stage = "update"

    def __init__(self, *, step: int):
        self.step = step

    def step_done(self, run, losses):
        run.stop = run.step == self.step
'''
CONFIG = """
[plugins]
local = ["TOY", "flawed.py"]
[model]
type = "OneStage"
backbone = { type = "ToyBackbone", dropout = 0.3 }
head = { type = "ToyHead" }
[train]
dataset = { type = "Flawed", length = 8 }
epochs = 3
batch_size = 2
report_every = 3
[val]
dataset = { type = "Flawed", length = 5, name = "val" }
evaluator = { type = "ToyEvaluator" }
batch_size = 2
[optimizer]
type = "SGD"
lr = 0.05
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOY.parent))
    Path("flawed.py").write_text(PLUGIN)
    Path("toy.toml").write_text(CONFIG.replace("TOY", TOY.as_posix()))
    return "toy.toml"


def trained(config: str, folder: str, *sets: str, **more: Any) -> Path:
    run.train(config, sets=sets, work_dir=folder, device="cpu", **more)
    return Path(folder)


def loaded(path: Path) -> Any:
    return json.loads(path.read_text())


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in (folder / "checkpoints").iterdir())


def at(folder: Path, name: str = "last.pt") -> dict[str, Any]:
    where: dict[str, Any] = read(folder / "checkpoints" / name)["at"]
    return where


def validated(folder: Path) -> list[int]:
    rows = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [row["step"] for row in rows if row["kind"] == "validation"]


def test_the_files_of_a_run(config: str) -> None:
    folder = trained(config, "out")
    metrics = loaded(folder / "metrics.json")
    assert (metrics["epoch"], metrics["step"]) == (3, 12)
    assert metrics["best"] >= metrics["accuracy"]
    results = loaded(folder / "predictions.json")
    assert [row["image_id"] for row in results] == [0, 1, 2, 3, 4]
    assert all(set(row) >= {"category_id", "bbox", "score"} for row in results)
    environment = loaded(folder / "environment.json")
    assert environment["torch"] == torch.__version__
    assert environment["processes"] == 1
    assert "detcore" in environment["plugins"]
    origin = (folder / "origin.txt").read_text()
    assert "train.epochs = 3" in origin
    assert "# toy.toml" in origin
    assert not [*folder.rglob("*.part")]


def test_its_config_trains_the_same_from_anywhere(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of a local module is relative to the file that names it."""
    folder = trained(config, "out", "train.epochs=1").resolve()
    table = load_config(config, sets=["train.epochs=1"]).table
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    again = trained(str(folder / "config.toml"), "out").resolve()
    ours = load_config(str(folder / "config.toml")).table
    assert {key: value for key, value in ours.items() if key != "plugins"} == {
        key: value for key, value in table.items() if key != "plugins"
    }
    left, right = (read(each / "checkpoints" / "last.pt")["model"] for each in (folder, again))
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert (again / "config.toml").read_text() == (folder / "config.toml").read_text()


def test_a_key_that_only_references_read_is_not_in_the_way(config: str) -> None:
    """It is resolved: its value is where it was referred to."""
    path = Path(config)
    path.write_text("how_long = 6\n" + path.read_text().replace("length = 8", 'length = "${how_long}"'))
    folder = trained(config, "out", "train.epochs=1")
    assert load_config(str(folder / "config.toml")).table["train"]["dataset"]["length"] == 6
    assert run.check(str(folder / "config.toml"))[-1].endswith("config.toml: no problem found")
    assert "how_long = 6" in (folder / "origin.txt").read_text()


FLAWS = {
    "train": {
        "counts": {"torn image: mended": 3, "old file: kept": 1},
        "where": {"train.json", "train: image 0", "train: image 3", "train: image 6"},
    },
    "val": {
        "counts": {"torn image: mended": 2, "old file: kept": 1},
        "where": {"val.json", "val: image 0", "val: image 3"},
    },
}


@pytest.mark.parametrize("workers", [0, 2])
def test_flaws_reach_the_report_from_any_process(config: str, workers: int) -> None:
    folder = trained(config, "out", f"train.workers={workers}", f"val.workers={workers}")
    check(loaded(folder / "data_report.json"))


def test_flaws_reach_the_report_from_other_ranks(config: str, tmp_path: Path) -> None:
    with server(config) as serve:
        log = tmp_path / "log"
        assert serve.ranks(2, config, "--work-dir", "out", log=log) == [0, 0], log.read_text()
    check(loaded(Path("out/data_report.json")))


def check(report: dict[str, Any]) -> None:
    for split, wanted in FLAWS.items():
        assert report[split]["counts"] == wanted["counts"]
        assert {flaw["where"] for flaw in report[split]["flaws"]} == wanted["where"]
        assert len(report[split]["flaws"]) == len(wanted["where"])
    assert report["train"]["objects dropped by transforms"] == 3


def test_a_resumed_run_reports_what_it_does_not_read_again(config: str) -> None:
    trained(config, "out", "train.epochs=1")
    folder = trained(config, "out", "train.epochs=3", resume="auto")
    check(loaded(folder / "data_report.json"))


def test_the_last_checkpoints_are_kept(config: str) -> None:
    folder = trained(config, "out", "train.keep=2")
    assert names(folder) == ["best.pt", "epoch-0002.pt", "epoch-0003.pt", "last.pt"]
    assert [at(folder, f"epoch-000{epoch}.pt")["epoch"] for epoch in (2, 3)] == [2, 3]
    assert at(folder, "epoch-0003.pt") == at(folder)


FALLING = ["val.evaluator.type='Falling'", "train.keep=9"]


def test_the_best_is_by_the_metric_that_is_named_after_a_resume_too(config: str) -> None:
    folder = trained(config, "out", *FALLING, "train.best_metric='falls'", "train.epochs=2")
    assert at(folder, "best.pt")["step"] == 4
    trained(config, "out", *FALLING, "train.best_metric='falls'", resume="auto")
    assert at(folder, "best.pt")["step"] == 4
    assert at(folder)["step"] == 12
    other = trained(config, "other", *FALLING, "train.best_metric='rises'", "train.epochs=2")
    trained(config, "other", *FALLING, "train.best_metric='rises'", resume="auto")
    assert at(other, "best.pt")["step"] == 12


def test_a_metric_that_there_is_not_is_named_with_those_that_there_are(config: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trained(config, "out", "train.best_metric='mAP'")
    assert str(caught.value) == ('train.best_metric: there is no metric "mAP". The evaluator gives accuracy.')


def test_a_run_of_steps_ends_within_an_epoch_and_goes_on_there(config: str) -> None:
    whole = trained(config, "whole", "train={epochs={_delete_=true}, steps=10}")
    assert at(whole) == {**at(whole), "step": 10, "epoch": 2, "position": 2}
    assert validated(whole) == [4, 8, 10]
    part = trained(config, "part", "train={epochs={_delete_=true}, steps=6}")
    assert at(part)["position"] == 2
    trained(config, "part", "train={epochs={_delete_=true}, steps=10}", resume="auto")
    assert same(whole, part)


def same(one: Path, two: Path) -> bool:
    left, right = (read(each / "checkpoints" / "last.pt")["model"] for each in (one, two))
    return all(torch.equal(left[name], right[name]) for name in left)


def test_validation_by_steps_and_its_losses(config: str) -> None:
    folder = trained(config, "out", "val.every_steps=5", "val.loss=true")
    assert validated(folder) == [5, 10, 12]
    metrics = loaded(folder / "metrics.json")
    assert {"accuracy", "val_loss", "val_loss_cls", "val_loss_box"} <= metrics.keys()
    assert metrics["val_loss"] == pytest.approx(metrics["val_loss_cls"] + metrics["val_loss_box"])


def test_a_callback_ends_a_run_within_an_epoch_and_it_stays_ended(config: str) -> None:
    stop = "callbacks.stop={type='StopAt', step=6}"
    folder = trained(config, "out", stop)
    assert at(folder) == {**at(folder), "step": 6, "epoch": 1, "position": 2, "stop": True, "validated": 6}
    assert validated(folder) == [4, 6]
    assert run.train(config, sets=[stop], work_dir="out", resume="auto", device="cpu").keys() == {"accuracy"}
    assert at(folder)["step"] == 6
    assert validated(folder) == [4, 6]
