"""What MLflow's client reads back; what is written and left behind."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detcore import run as runs
from detcore.testing import check_callback
from detcore_mlflow.mlflow import MlflowLog, flat
from PIL import Image

CONFIG = 'seed = 3\nclasses = ["a", "b"]\n[model]\ntype = "OneStage"\n[[schedule]]\ntype = "Cosine"\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where nothing may be written."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def a_run(folder: Path, step: int = 0, config: str = CONFIG) -> Any:
    folder.mkdir(exist_ok=True)
    return SimpleNamespace(folder=folder, step=step, meta={"config": config}, best=0.5, best_metric="AP")


def reader(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder.resolve() / 'mlflow' / 'mlflow.db'}")


def values(folder: Path, id: str | None, name: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in reader(folder).get_metric_history(id, name)]


def test_numbers_parameters_and_files_are_read_back(tmp_path: Path, home: Path) -> None:
    folder, before = tmp_path / "run7", dict(os.environ)
    log, run = MlflowLog(experiment="shapes"), a_run(tmp_path / "run7")
    Image.new("RGB", (8, 6)).save(folder / "samples.png")
    log.run_started(run)
    for run.step, loss in ((2, 1.5), (4, 0.75)):
        log.reported(run, {"lr": 0.5, "loss": loss})
    log.evaluated(run, {"AP": 0.25, "AP75": math.nan, "AP@50 %": 0.5})
    log.run_ended(run)
    assert values(folder, log.id, "train/loss") == [(2, 1.5), (4, 0.75)]
    assert values(folder, log.id, "val/AP") == [(4, 0.25)]
    assert values(folder, log.id, "val/AP_50 _") == [(4, 0.5)]
    assert values(folder, log.id, "best/AP") == [(4, 0.5)]
    assert math.isnan(values(folder, log.id, "val/AP75")[0][1])
    client = reader(folder)
    found = client.get_run(log.id)
    assert (found.info.run_name, found.info.status) == ("run7", "FINISHED")
    assert client.get_experiment(found.info.experiment_id).name == "shapes"
    assert found.data.params == {
        "seed": "3",
        "classes": "['a', 'b']",
        "model.type": "OneStage",
        "schedule.0.type": "Cosine",
    }
    files = {path.name: path for path in (folder / "mlflow" / "artifacts").rglob("*") if path.is_file()}
    assert files["config.toml"].read_text() == CONFIG
    assert Image.open(files["samples.png"]).size == (8, 6)
    assert files["samples.png"].parent.name == "4"
    assert dict(os.environ) == before
    assert [*home.iterdir()] == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "run7"}


def test_a_resumed_run_goes_on_with_its_first_parameters(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    first, second = MlflowLog(), MlflowLog()
    first.run_started(a_run(folder))
    first.reported(a_run(folder, 1), {"loss": 1.0})
    first.run_failed(a_run(folder, 1), KeyboardInterrupt())
    assert reader(folder).get_run(first.id).info.status == "FAILED"
    second.load_state_dict(first.state_dict())
    second.run_started(a_run(folder, 1, CONFIG.replace("3", "4")))
    assert reader(folder).get_run(first.id).info.status == "RUNNING"
    second.reported(a_run(folder, 2), {"loss": 7.0})
    second.run_ended(a_run(folder, 2))
    assert second.id == first.id
    assert values(folder, first.id, "train/loss") == [(1, 1.0), (2, 7.0)]
    assert reader(folder).get_run(first.id).data.params["seed"] == "3"


def test_a_run_that_the_database_does_not_know_is_a_new_one(tmp_path: Path) -> None:
    first, second = MlflowLog(), MlflowLog()
    first.run_started(a_run(tmp_path / "a"))
    second.load_state_dict(first.state_dict())
    second.run_started(a_run(tmp_path / "b", 1))
    assert second.id != first.id
    assert reader(tmp_path / "b").get_run(second.id).data.params["seed"] == "3"


def test_the_address_may_come_from_the_config_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow would keep the files of a database that is told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'env.db'}")
    for log, name in ((MlflowLog(), "env.db"), (MlflowLog(tracking_uri=f"sqlite:///{tmp_path / 'own.db'}"), "own.db")):
        log.run_started(a_run(tmp_path / "a"))
        log.run_ended(a_run(tmp_path / "a"))
        assert (tmp_path / name).is_file()
    assert not (tmp_path / "a" / "mlflow").exists()


def test_parameters_keep_to_the_limits() -> None:
    table = {"a": {"x" * 300: 1, "b.*": [1, 2]}, "long": "y" * 7000, "rows": [{"t": 1}, 2], "none": [[1], [2]]}
    found = flat(table)
    assert found == {
        "a." + "x" * 245 + "...": "1",
        "a.b._": "[1, 2]",
        "long": "y" * 5997 + "...",
        "rows.0.t": "1",
        "rows.1": "2",
        "none": "[[1], [2]]",
    }


def test_many_parameters_and_metrics_are_sent_in_parts(tmp_path: Path) -> None:
    config = "".join(f"k{number} = {number}\n" for number in range(250))
    log, run = MlflowLog(), a_run(tmp_path / "a", 1, config)
    log.run_started(run)
    log.scalars({f"AP/{number}": 0.5 for number in range(1203)}, 1)
    data = reader(tmp_path / "a").get_run(log.id).data
    assert len(data.params) == 250
    assert len(data.metrics) == 1203
    assert not log.silent


def test_levels_of_logging_are_put_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import mlflow  # noqa: F401

    before = [logging.getLogger(name).level for name in ("mlflow", "alembic")]
    MlflowLog().run_started(a_run(tmp_path / "a"))
    assert [logging.getLogger(name).level for name in ("mlflow", "alembic")] == before
    assert capfd.readouterr() == ("", "")


def test_a_server_that_is_gone_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, run = MlflowLog(), a_run(tmp_path / "a", 1)
    log.run_started(run)
    log.client.log_batch = lambda *_: (_ for _ in ()).throw(ConnectionError("refused"))
    capsys.readouterr()
    log.reported(run, {"loss": 1.0})
    log.reported(run, {"loss": 1.0})
    log.run_ended(run)
    assert capsys.readouterr().err == "warning: MlflowLog failed and logs no more: ConnectionError: refused\n"


TOY = Path(__file__).parents[3] / "tests" / "core" / "toy_plugin.py"
TRAINS = f"""
classes = ["red", "green"]
[plugins]
local = ["{TOY.as_posix()}"]
[model]
type = "OneStage"
backbone = {{ type = "ToyBackbone" }}
head = {{ type = "ToyHead" }}
[train]
dataset = {{ type = "ToyDataset" }}
epochs = 2
batch_size = 4
report_every = 1
[val]
dataset = {{ type = "ToyDataset", length = 4 }}
evaluator = {{ type = "ToyEvaluator" }}
[optimizer]
type = "SGD"
lr = 0.1
[callbacks.mlflow]
type = "MlflowLog"
"""


def test_a_config_that_names_it_trains_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    Path("toy.toml").write_text(TRAINS)
    metrics = runs.train("toy.toml", work_dir="out")
    id = torch.load("out/checkpoints/last.pt", weights_only=True)["callbacks"]["mlflow"]["id"]
    assert {step for step, _ in values(Path("out"), id, "train/loss")} == {1, 2, 3, 4}
    assert values(Path("out"), id, "val/accuracy")[-1] == (4, pytest.approx(metrics["accuracy"]))
    assert reader(Path("out")).get_run(id).data.params["model.backbone.type"] == "ToyBackbone"


def test_mlflow_is_imported_when_a_run_starts() -> None:
    code = "import sys, detcore_mlflow.mlflow; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_it_is_a_callback() -> None:
    check_callback(MlflowLog)
