"""What an offline run holds, read back record by record; what is asked, written and left behind."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detcore import run as runs
from detcore.errors import ConfigError, UserError
from detcore.testing import check_callback
from detcore_wandb.wandb import WandbLog
from PIL import Image

BLOCK = 32768
CONFIG = "seed = 3\nranges = [[-1, 64], [64, inf]]\n[model]\ntype = 'OneStage'\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without credentials, where nothing may be written."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("WANDB_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("NETRC", str(folder / ".netrc"))
    return folder


def a_run(folder: Path, step: int = 0) -> Any:
    folder.mkdir(exist_ok=True)
    return SimpleNamespace(folder=folder, step=step, meta={"config": CONFIG}, best=0.5, best_metric="AP")


def records(folder: Path) -> list[Any]:
    """The records of an offline run, once it has ended: wandb's own process writes them a moment later."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        found = [*decoded(path.read_bytes())]
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{path} does not end")


def decoded(data: bytes) -> Iterator[Any]:
    """wandb's file is LevelDB's log of protocol buffers, after seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, collected = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        collected = (b"" if kind in (1, 2) else collected) + data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(collected)


def begun(folder: Path) -> Any:
    return next(record.run for record in records(folder) if record.HasField("run"))


def history(folder: Path) -> list[dict[str, Any]]:
    rows = (record.history.item for record in records(folder) if record.HasField("history"))
    return [
        {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in row if item.key != "_step"}
        for row in rows
    ]


def values(folder: Path, name: str) -> list[tuple[int, Any]]:
    return [(row["step"], row[name]) for row in history(folder) if name in row]


def test_an_offline_run_holds_numbers_config_and_picture(tmp_path: Path, home: Path) -> None:
    folder, before = tmp_path / "run7", dict(os.environ)
    log, run = WandbLog(project="p", tags=["small"], mode="offline"), a_run(tmp_path / "run7")
    Image.new("RGB", (8, 6)).save(folder / "samples.png")
    log.run_started(run)
    for run.step, loss in ((2, 1.5), (4, 0.75)):
        log.reported(run, {"lr": 0.5, "loss": loss})
    log.evaluated(run, {"AP": 0.25, "AP75": math.nan})
    log.run_ended(run)
    assert values(folder, "train/loss") == [(2, 1.5), (4, 0.75)]
    assert values(folder, "val/AP") == [(4, 0.25)]
    assert values(folder, "best/AP") == [(4, 0.5)]
    assert str(values(folder, "val/AP75")[0][1]).lower() == "nan"
    assert any(key.startswith("samples") for row in history(folder) for key in row)
    (picture,) = folder.glob("wandb/offline-run-*/files/media/images/*.png")
    assert Image.open(picture).size == (8, 6)
    started = begun(folder)
    assert (started.project, started.display_name, list(started.tags)) == ("p", "run7", ["small"])
    config = {item.key: json.loads(item.value_json) for item in started.config.update if item.key != "_wandb"}
    assert config["seed"] == 3
    assert config["model"] == {"type": "OneStage"}
    assert [record.exit.exit_code for record in records(folder) if record.HasField("exit")] == [0]
    assert dict(os.environ) == before
    assert [*home.iterdir()] == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "run7"}


def test_a_resumed_run_keeps_its_id(tmp_path: Path) -> None:
    first, second = WandbLog(mode="offline"), WandbLog(mode="offline")
    first.run_started(a_run(tmp_path / "a"))
    first.run_failed(a_run(tmp_path / "a"), KeyboardInterrupt())
    second.load_state_dict(first.state_dict())
    second.run_started(a_run(tmp_path / "b", 2))
    second.reported(a_run(tmp_path / "b", 3), {"loss": 7.0})
    second.run_ended(a_run(tmp_path / "b", 3))
    ids = {begun(tmp_path / name).run_id for name in "ab"}
    assert ids == {first.id}
    assert first.state_dict() == {"id": first.id}
    assert values(tmp_path / "b", "train/loss") == [(3, 7.0)]
    assert [each.exit.exit_code for each in records(tmp_path / "a") if each.HasField("exit")] == [1]


def test_online_without_a_key_is_an_error_and_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    log = WandbLog(mode="online")
    with pytest.raises(ConfigError) as caught:
        log.run_started(a_run(tmp_path / "a"))
    assert str(caught.value) == (
        'WandbLog: has no API key. Run "wandb login", set WANDB_API_KEY, or write mode = "offline".'
    )
    log.run_failed(a_run(tmp_path / "a"), caught.value)


def test_the_environment_may_say_the_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log, run = WandbLog(), a_run(tmp_path / "a")
    log.run_started(run)
    log.reported(run, {"loss": 1.0})
    log.run_ended(run)
    assert not [*(tmp_path / "a").glob("wandb/*run*")]


def test_a_server_that_is_gone_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def gone(*_: Any) -> None:
        raise ConnectionError("broken pipe")

    log, run = WandbLog(), a_run(tmp_path / "a")
    log.run = SimpleNamespace(log=gone)
    log.reported(run, {"loss": 1.0})
    log.reported(run, {"loss": 1.0})
    log.run_ended(run)
    assert capsys.readouterr().err == ("warning: WandbLog failed and logs no more: ConnectionError: broken pipe\n")


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
[callbacks.wandb]
type = "WandbLog"
mode = "offline"
"""


def test_a_config_that_names_it_trains_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.toml").write_text(TRAINS)
    metrics = runs.train("toy.toml", work_dir="out")
    assert {step for step, _ in values(Path("out"), "train/loss")} == {1, 2, 3, 4}
    assert values(Path("out"), "val/accuracy")[-1] == (4, pytest.approx(metrics["accuracy"]))
    with pytest.raises(UserError, match=r'callbacks\.wandb\.mode: found "sometimes"'):
        runs.check("toy.toml", sets=["callbacks.wandb.mode=sometimes"])


def test_wandb_is_imported_when_a_run_starts() -> None:
    code = "import sys, detcore_wandb.wandb; print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_it_is_a_callback() -> None:
    check_callback(WandbLog, mode="offline")
