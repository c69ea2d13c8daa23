"""Runs that are killed, told to end or run out of disk, through the command line: nothing is lost, nothing is half."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core.runner.server import Server, server
from detcore.errors import CheckpointError
from detcore.loading import read
from detcore.runner.checkpoint import write_atomically

TOY = Path(__file__).parents[1] / "toy_plugin.py"
CONFIG = f"""
[plugins]
local = ["{TOY.as_posix()}"]
[model]
type = "OneStage"
backbone = {{ type = "ToyBackbone", norm = {{ type = "BN" }}, dropout = 0.3 }}
head = {{ type = "ToyHead" }}
[train]
dataset = {{ type = "ToyDataset", length = 20 }}
epochs = 18
batch_size = 2
accumulate = 3
transforms = [{{ type = "RandomHorizontalFlip" }}, {{ type = "ColorJitter", brightness = 0.5 }}]
save_every = 1
keep = 2
prefetch = 4
report_every = 3
[val]
dataset = {{ type = "ToyDataset", length = 6 }}
evaluator = {{ type = "ToyEvaluator" }}
batch_size = 2
[optimizer]
type = "AdamW"
lr = 0.003
[[schedule]]
type = "Cosine"
[callbacks.pictures]
type = "ToyCallback"
[callbacks.ema]
type = "EMA"
momentum = 0.1
"""
"""An epoch has ten batches: three steps of three, and one of one."""
STEPS = 18 * 4


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("config") / "toy.toml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture(scope="module")
def serve(config: str) -> Iterator[Server]:
    with server(config) as it:
        yield it


SHORT = ("--set", "train.epochs=3")


@pytest.fixture(scope="module")
def short(serve: Server, config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nothing happened to."""
    folder = tmp_path_factory.mktemp("short")
    assert serve.run(config, *SHORT, "--work-dir", str(folder), log=folder / "log") == 0
    return folder


def same(one: Any, two: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, Mapping):
        return one.keys() == two.keys() and all(same(value, two[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def different(one: Path, two: Path) -> list[str]:
    """What of two runs' last and best checkpoints differs: weights, averages, moments, generators, counts, scores."""
    pairs = [(read(one / "checkpoints" / name), read(two / "checkpoints" / name)) for name in ("last.pt", "best.pt")]
    return [key for left, right in pairs for key in left if key != "meta" and not same(left[key], right[key])]


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.pt"


def test_twenty_kills_change_nothing(serve: Server, config: str, tmp_path: Path) -> None:
    """A third of them while a checkpoint is written; they are resumed with other numbers of workers."""
    straight, killed, count = tmp_path / "straight", tmp_path / "killed", tmp_path / "count"
    assert serve.run(config, "--work-dir", str(straight), log=tmp_path / "log", kill={"count": str(count)}) == 0
    per_step = int(count.read_text()) // STEPS
    draw = np.random.default_rng(4)
    half_written = 0
    for number in range(20):
        saving = {"save": int(draw.integers(1, 6)), "after": float(draw.uniform(0, 0.008))}
        anywhere = {"calls": int(draw.integers(1, 5 * per_step))}
        workers = f"train.workers={(0, 2, 0, 4)[number % 4]}"
        options = [
            "--work-dir",
            str(killed),
            "--set",
            workers,
            *(["--resume", "auto"] if last(killed).exists() else []),
        ]
        log = tmp_path / f"log-{number}"
        kill = saving if number % 3 == 2 else anywhere
        assert serve.run(config, *options, log=log, kill=kill) == -signal.SIGKILL, log.read_text()
        half_written += (killed / "checkpoints" / ".last.pt.part").exists()
    assert half_written
    assert 10 < read(last(killed))["at"]["step"] < STEPS
    log = tmp_path / "log-last"
    assert serve.run(config, "--work-dir", str(killed), "--resume", "auto", log=log) == 0, log.read_text()
    assert different(straight, killed) == []


MOMENTS = {
    "in a step, the workers too": ("SIGTERM", {"function": "optim.clip", "number": 2}, "step 2"),
    "waiting for workers": ("SIGTERM", {"function": "dataloader._next_data", "number": 5}, "step 2"),
    "while it validates": ("SIGTERM", {"function": "evaluate._find", "number": 2}, "step 4"),
    "while it saves": ("SIGTERM", {"function": "checkpoint.write_atomically", "number": 2}, "step 2"),
    "before its first step": ("SIGTERM", {"function": "train.begin"}, "step 1"),
    "twice, from scheduler and launcher": ("SIGTERM", {"function": "optim.clip", "signals": [15, 15]}, "step 1"),
    "Ctrl-C": ("SIGINT", {"function": "optim.clip", "number": 2}, "step 2"),
    "Ctrl-C while it validates": ("SIGINT", {"function": "evaluate._find", "number": 2}, "step 4"),
}


@pytest.mark.parametrize(("name", "kill", "at"), MOMENTS.values(), ids=MOMENTS.keys())
def test_a_run_that_is_told_to_end_saves_and_says_so(
    serve: Server, config: str, short: Path, tmp_path: Path, name: str, kill: dict[str, Any], at: str
) -> None:
    number, log = signal.Signals[name], tmp_path / "log"
    options = [config, *SHORT, "--work-dir", str(tmp_path / "run"), "--set", "train.workers=2"]
    kill = {"signals": [number], **kill, "group": True}
    assert serve.run(*options, log=log, kill=kill) == 128 + number, log.read_text()
    assert log.read_text().splitlines()[-1] == (
        f"{tmp_path / 'run'}: ended by {name} after {at}, which is saved. Go on with --resume auto."
    )
    assert "Traceback" not in log.read_text()
    assert serve.run(*options, "--resume", "auto", log=tmp_path / "log-2") == 0
    assert different(short, tmp_path / "run") == []


def test_a_second_signal_ends_at_once(serve: Server, config: str, tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "run"
    kill = {"function": "optim.clip", "number": 2, "signals": [2, 2], "apart": 1.2, "group": True}
    workers = ("--set", "train.workers=2")
    assert serve.run(config, *SHORT, *workers, "--work-dir", str(folder), log=log, kill=kill) == 130
    assert "Traceback" not in log.read_text()
    assert "is saved" not in log.read_text()
    assert read(last(folder))["at"]["step"] == 1


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(
    serve: Server, config: str, short: Path, tmp_path: Path
) -> None:
    """The files of a process are limited in size, which the system tells as it tells of a full disk."""
    log, folder = tmp_path / "log", tmp_path / "run"
    size = last(short).stat().st_size
    kill = {"function": "optim.clip", "number": 2, "file_size": size // 2}
    assert serve.run(config, *SHORT, "--work-dir", str(folder), log=log, kill=kill) == 2
    assert log.read_text().splitlines()[-1] == (
        f"{last(folder)}: cannot be written: [Errno 27] File too large. The one from before is whole."
    )
    assert "Traceback" not in log.read_text()
    assert read(last(folder))["at"]["step"] == 1
    assert [each.name for each in last(folder).parent.iterdir()] == ["last.pt"]
    assert serve.run(config, *SHORT, "--work-dir", str(folder), "--resume", "auto", log=log) == 0
    assert different(short, folder) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with little room, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], check=False)
    if not made or made.returncode:
        pytest.skip("no file system can be mounted here; a limit of the size of files stands for it above")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    path = small_disk / "last.pt"
    write_atomically({"a": torch.zeros(10_000)}, path)
    with pytest.raises(CheckpointError) as caught:
        write_atomically({"a": torch.zeros(60_000)}, path)
    assert str(caught.value) == (
        f"{path}: cannot be written: [Errno 28] No space left on device. The one from before is whole."
    )
    assert len(read(path)["a"]) == 10_000
    assert [each.name for each in small_disk.iterdir()] == ["last.pt"]


def test_what_is_half_written_or_damaged_is_not_resumed(
    serve: Server, config: str, short: Path, tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(short, folder)
    (last(folder).parent / ".last.pt.part").write_bytes(last(folder).read_bytes()[:1000])
    assert serve.run(config, *SHORT, "--work-dir", str(folder), "--resume", "auto", log=log) == 0
    last(folder).write_bytes(last(folder).read_bytes()[:1000])
    assert serve.run(config, *SHORT, "--work-dir", str(folder), "--resume", "auto", log=log) == 2
    assert log.read_text().splitlines()[-1] == (
        f"{last(folder)}: is cut short or damaged. "
        "Beside it is best.pt, epoch-0002.pt, epoch-0003.pt: resume from one of these."
    )
    epoch = str(last(folder).with_name("epoch-0002.pt"))
    assert serve.run(config, *SHORT, "--resume", epoch, log=log) == 0
    assert different(short, folder) == []
