"""Several processes train as one does with the whole batch, and end together, whatever happens to one of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from core.runner.server import Server, server
from detcore.loading import read

TOY = Path(__file__).parents[1] / "toy_plugin.py"
FAULTS = '''
import time

import torch
from detcore import Component, distributed, hookimpl
from detcore.interfaces import Callback, Loss
from detcore.report import Flaw
from toy_plugin import ToyDataset


@hookimpl
def detcore_components():
    return [Component("dataset", "Faulty", f"{__name__}:Faulty"), Component("callback", "Fault", f"{__name__}:Fault")]


class Faulty(ToyDataset):
    """An image of it cannot be read; every image whose number is even has a flaw."""

    def __init__(self, *, bad: int, **more) -> None:
        super().__init__(**more)
        self.bad = bad
        self.report = []

    def __getitem__(self, index):
        if index == self.bad:
            raise OSError(f"image {index} is\\nbroken")
        if index % 2 == 0:
            self.report.append(Flaw(f"image {index}", "is even", "kept", "even"))
        return super().__getitem__(index)


class Fault(Callback):
    """Weights are not a number in one process, or it raises, after a step."""

    stage = "update"

    def __init__(self, *, what: str, rank: int = 1, step: int = 2) -> None:
        self.what, self.rank, self.step = what, rank, step

    def step_done(self, run, losses):
        if run.step != self.step or distributed.rank() != self.rank:
            return
        if self.what == "nan":
            run.detector.backbone.conv.register_forward_hook(lambda _, inputs, output: output * float("nan"))
        elif self.what == "raise":
            raise ValueError("this went\\nwrong")
        elif self.what == "code":
            run.detector.backbone.conv.register_forward_hook(lambda *_: torch.zeros(2) @ torch.zeros(3))
        elif self.what == "sleep":
            (run.folder / "asleep").touch()
            time.sleep(3)
'''
CONFIG = """
[plugins]
local = ["TOY", "faults.py"]
[model]
type = "OneStage"
backbone = { type = "ToyBackbone", width = 8, norm = { type = "GN", num_groups = 4 } }
head = { type = "ToyHead" }
[train]
dataset = { type = "ToyDataset", length = 11, empty = [0, 1, 3, 4, 7, 8] }
steps = 10
batch_size = 4
accumulate = 2
clip_grad = 1.0
transforms = [{ type = "RandomHorizontalFlip" }, { type = "ColorJitter", brightness = 0.5 }]
workers = 1
save_every = 1
report_every = 1
[val]
dataset = { type = "ToyDataset", length = 7 }
evaluator = { type = "ToyEvaluator" }
batch_size = 2
loss = true
[optimizer]
type = "SGD"
lr = 0.05
momentum = 0.9
[callbacks.pictures]
type = "ToyCallback"
[callbacks.ema]
type = "EMA"
momentum = 0.1
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("config")
    (folder / "faults.py").write_text(FAULTS)
    (folder / "toy.toml").write_text(CONFIG.replace("TOY", TOY.as_posix()))
    return str(folder / "toy.toml")


@pytest.fixture(scope="module")
def serve(config: str) -> Iterator[Server]:
    with server(config) as it:
        yield it


@pytest.fixture(scope="module")
def alone(serve: Server, config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert serve.run(config, "--work-dir", str(folder), log=folder / "log") == 0, (folder / "log").read_text()
    return folder


@pytest.fixture(scope="module")
def both(serve: Server, config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    codes = serve.ranks(2, config, "--work-dir", str(folder), log=folder / "log")
    assert codes == [0, 0], (folder / "log").read_text()
    return folder


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    rows = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [row for row in rows if row["kind"] == kind]


def last(folder: Path) -> dict[str, Any]:
    return read(folder / "checkpoints" / "last.pt")


def test_two_processes_are_one_with_the_whole_batch(alone: Path, both: Path) -> None:
    """Some halves of batches have no object; the last batch of an epoch has three images."""
    for name in ("loss", "loss_cls", "loss_box", "grad_norm"):
        one, two = ([row[name] for row in lines(folder, "train")] for folder in (alone, both))
        assert len(one) == 10
        assert two == pytest.approx(one, abs=1e-5)
    for key in ("model", "averaged"):
        one, two = last(alone)[key], last(both)[key]
        assert all((one[name] - two[name]).abs().max() < 1e-5 for name in one)
    assert last(both)["at"] == last(alone)["at"]


def test_what_two_processes_score_is_what_one_does(serve: Server, config: str, alone: Path, tmp_path: Path) -> None:
    """Seven images in batches of two: in the end, one of the two has none of its own and takes that of the other."""
    checkpoint, results = str(alone / "checkpoints" / "last.pt"), {}
    for ranks in (1, 2):
        output, log = tmp_path / f"{ranks}.json", tmp_path / f"log-{ranks}"
        codes = serve.ranks(ranks, "eval", config, checkpoint, "--output", str(output), log=log)
        assert codes == [0] * ranks, log.read_text()
        results[ranks] = json.loads(output.read_text()), log.read_text()
    assert len(results[1][0]) == 7
    assert results[2] == results[1]
    assert "val_loss" in results[1][1]


def test_scores_while_training(alone: Path, both: Path) -> None:
    one, two = ([row["accuracy"] for row in lines(folder, "validation")] for folder in (alone, both))
    assert len(one) == 5
    assert two == one
    left, right = (json.loads((folder / "predictions.json").read_text()) for folder in (alone, both))
    assert [row["image_id"] for row in right] == [row["image_id"] for row in left] == [*range(7)]


def test_one_process_writes_and_prints(both: Path) -> None:
    log = (both / "log").read_text()
    assert log.count("steps in 0:") == 1
    assert log.count(f"in {both}\n") == 1
    assert json.loads((both / "environment.json").read_text())["processes"] == 2
    assert len(lines(both, "started")) == 1
    first, second = last(both)["rng"]
    assert not torch.equal(first["torch"], second["torch"])


def same(one: Path, two: Path) -> bool:
    """Weights, averages and moments, bit for bit."""
    left, right = last(one), last(two)
    assert left["at"] == right["at"]
    flat = [
        [*content["model"].values(), *content["averaged"].values()]
        + [each["momentum_buffer"] for each in content["optimizer"]["state"]["state"].values()]
        for content in (left, right)
    ]
    return all(map(torch.equal, *flat))


DROPOUT = ("--set", "model.backbone.dropout=0.3")


@pytest.fixture(scope="module")
def dropped(serve: Server, config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes whose generators matter."""
    folder = tmp_path_factory.mktemp("dropped")
    assert serve.ranks(2, config, *DROPOUT, "--work-dir", str(folder), log=folder / "log") == [0, 0]
    return folder


def test_two_killed_processes_resume_as_if_they_had_not_been(
    serve: Server, config: str, dropped: Path, tmp_path: Path
) -> None:
    folder, log = str(tmp_path / "run"), tmp_path / "log"
    kill = {"function": "optim.clip", "number": 6}
    assert serve.ranks(2, config, *DROPOUT, "--work-dir", folder, log=log, kill=kill) == [-9, -9]
    assert serve.ranks(2, config, *DROPOUT, "--work-dir", folder, "--resume", "auto", log=log) == [0, 0]
    assert "step 5/10" in log.read_text().partition("resumed")[2]
    assert same(tmp_path / "run", dropped)


def test_a_signal_to_one_ends_both_after_the_same_step(
    serve: Server, config: str, dropped: Path, tmp_path: Path
) -> None:
    folder, log = str(tmp_path / "run"), tmp_path / "log"
    kill = {"function": "optim.clip", "number": 6, "signals": [15], "rank": 1}
    assert serve.ranks(2, config, *DROPOUT, "--work-dir", folder, log=log, kill=kill) == [143, 143]
    told = [line for line in log.read_text().splitlines() if "ended by" in line]
    assert len(told) == 1
    assert told[0].endswith(f"{folder}: ended by SIGTERM after step 6, which is saved. Go on with --resume auto.")
    assert serve.ranks(2, config, *DROPOUT, "--work-dir", folder, "--resume", "auto", log=log) == [0, 0]
    assert same(tmp_path / "run", dropped)


FAULTS_OF_ONE = {
    "a callback": (
        'callbacks.fault={type="Fault", what="raise"}',
        "callback fault: step_done raised ValueError: this went wrong",
    ),
    "an image": (
        'train.dataset={_delete_=true, type="Faulty", length=11, bad=5}',
        "image 5: Faulty raised OSError: image 5 is broken",
    ),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS_OF_ONE.values(), ids=FAULTS_OF_ONE.keys())
def test_what_one_process_raises_ends_both_and_is_told(
    serve: Server, config: str, tmp_path: Path, fault: str, message: str
) -> None:
    log, began = tmp_path / "log", time.monotonic()
    codes = serve.ranks(2, config, "--set", fault, "--work-dir", str(tmp_path / "run"), log=log)
    assert codes == [2, 2]
    assert time.monotonic() - began < 30
    printed = [line for line in log.read_text().splitlines() if line.startswith("process ")]
    assert len([line for line in printed if line.endswith(f": {message}") and "stopped" not in line]) == 1, printed
    assert len(printed) <= 2
    assert "Traceback" not in log.read_text()


def test_an_error_of_code_shows_its_traceback_once(serve: Server, config: str, tmp_path: Path) -> None:
    log, fault = tmp_path / "log", 'callbacks.fault={type="Fault", what="code"}'
    assert serve.ranks(2, config, "--set", fault, "--work-dir", str(tmp_path / "run"), log=log) == [2, 1]
    text = log.read_text()
    assert text.count("Traceback (most recent call last)") == 1
    assert "RuntimeError: inconsistent tensor size" in text
    assert "process 0: stopped, as process 1 did: RuntimeError: inconsistent tensor size" in text


def test_a_number_that_is_not_finite_in_one_process_is_diagnosed(serve: Server, config: str, tmp_path: Path) -> None:
    log, fault = tmp_path / "log", 'callbacks.fault={type="Fault", what="nan"}'
    assert serve.ranks(2, config, "--set", fault, "--work-dir", str(tmp_path / "run"), log=log) == [2, 2]
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("process 1: ")]
    file = tmp_path / "run" / "nonfinite" / "step-2-process-1.pt"
    assert line.startswith("process 1: step 2: loss_cls is nan, loss_box is nan for images ")
    assert "; the first output that is not finite is that of backbone.conv (Conv2d). " in line
    assert line.endswith(f"core-run replay {file}")
    assert file.is_file()


MISTAKES = {
    "a key that there is not": ("train.batch_sise=2", "train.batch_sise: "),
    "too few images": ("train.batch_size=1", "train.batch_size: 1 is less than one image for each of 2 processes"),
}


@pytest.mark.parametrize(("mistake", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_that_all_make_is_told_once(
    serve: Server, config: str, tmp_path: Path, mistake: str, message: str
) -> None:
    log = tmp_path / "log"
    assert serve.ranks(2, config, "--set", mistake, log=log) == [2, 2]
    (line,) = log.read_text().splitlines()
    assert message in line


def torchrun(*args: str) -> subprocess.Popen[str]:
    """The real one; all that it and its processes print comes out together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOY.parent)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*launcher, "-m", "detcore", *args], env=environment, start_new_session=True, **output)


def test_torchrun_told_to_end_ends_all_and_what_was_done_is_saved(
    serve: Server, config: str, dropped: Path, tmp_path: Path
) -> None:
    """It passes the signal on, to workers too; then two other processes go on."""
    folder, log = tmp_path / "run", tmp_path / "log"
    slow = ("--set", 'callbacks.fault={type="Fault", what="sleep", step=3, rank=0}')
    with torchrun("train", config, *DROPOUT, *slow, "--work-dir", str(folder)) as launched:
        while not (folder / "asleep").exists():
            assert launched.poll() is None, launched.communicate()[0]
            time.sleep(0.1)
        launched.terminate()
        text = launched.communicate(timeout=30)[0]
    told = [line for line in text.splitlines() if "ended by" in line]
    assert len(told) == 1, text
    assert told[0].endswith(f"{folder}: ended by SIGTERM after step 3, which is saved. Go on with --resume auto.")
    assert serve.ranks(2, config, *DROPOUT, "--work-dir", str(folder), "--resume", "auto", log=log) == [0, 0]
    assert same(folder, dropped)


def test_torchrun_ends_where_one_process_fails(config: str, tmp_path: Path) -> None:
    fault = 'train.dataset={_delete_=true, type="Faulty", length=11, bad=5}'
    with torchrun("train", config, "--set", fault, "--work-dir", str(tmp_path / "run")) as launched:
        text = launched.communicate(timeout=90)[0]
    assert launched.returncode != 0
    assert re.search(r"^process 1: image 5: Faulty raised OSError: image 5 is broken$", text, re.MULTILINE), text
