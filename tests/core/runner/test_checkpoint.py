"""Checkpoints: an interrupted run ends as one that was not, files are whole, and each misuse is one line."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from core.runner.tiny import TinyDataset, TinyDetector, tiny_run
from detcore.errors import CheckpointError, ComponentError, UserError
from detcore.interfaces import Callback
from detcore.loading import compare, load_weights, read
from detcore.runner import checkpoint as module
from detcore.runner.checkpoint import resume, save, write_atomically
from detcore.runner.evaluate import Evaluation
from detcore.runner.state import Run
from detcore.runner.train import train
from detcore.schedules import Cosine
from torch import Tensor, nn


class Killed(BaseException):
    """Ends a run as abruptly as a test can."""


class KillAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def step_done(self, run: Any, losses: Any) -> None:
        if run.step == self.step:
            raise Killed


class Counts(Callback):
    """Has a state."""

    def __init__(self) -> None:
        self.steps = 0

    def step_done(self, run: Any, losses: Any) -> None:
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]


def adam(detector: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(detector.parameters(), lr=0.01)


def run_of(folder: Path, *, kill: int = 0, **more: Any) -> Run:
    detector = TinyDetector()
    torch.manual_seed(1)
    for parameter in detector.parameters():
        nn.init.uniform_(parameter)
    callbacks = {"count": Counts(), **({"kill": KillAfter(kill)} if kill else {})}
    settings = {"schedules": [Cosine()], "callbacks": callbacks, "evaluate": lambda *_: Evaluation({"AP": 0.25})}
    return tiny_run(folder, detector=detector, optimizer=adam(detector), **{**settings, **more})


def last(run: Run) -> Path:
    return run.folder / "checkpoints" / "last.pt"


def state(run: Run) -> list[Tensor]:
    moments = [value for each in run.optimizer.state.values() for value in each.values()]
    return [*run.detector.state_dict().values(), *moments]


@pytest.mark.parametrize(("length", "kill", "workers"), [(12, 3, 0), (12, 9, 2), (6, 4, 0), (6, 5, 0), (6, 2, 2)])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path, length: int, kill: int, workers: int) -> None:
    """Epochs of 6 or 3 steps; killed within the first or second, and after the checkpoint between them."""
    straight = run_of(tmp_path / "straight", workers=workers, length=length)
    train(straight)
    killed = run_of(tmp_path / "killed", workers=workers, length=length, kill=kill, save_every=1)
    with pytest.raises(Killed):
        train(killed)
    again = run_of(tmp_path / "killed", workers=workers, length=length)
    resume(again, last(killed))
    assert again.step == kill - 1
    torch.rand(5)  # whatever comes between does not matter
    train(again)
    assert all(torch.equal(one, two) for one, two in zip(state(straight), state(again), strict=True))
    assert again.callbacks["count"].steps == straight.callbacks["count"].steps == again.step  # type: ignore[attr-defined]
    assert again.metrics == {"AP": 0.25}


def test_a_run_killed_in_validation_is_not_trained_again(tmp_path: Path) -> None:
    def killed(*_: Any) -> Mapping[str, float]:
        raise Killed

    run = run_of(tmp_path, evaluate=killed)
    with pytest.raises(Killed):
        train(run)
    again = run_of(tmp_path, epochs=1)
    resume(again, last(run))
    assert (again.epoch, again.position, again.step) == (0, 6, 6)
    assert train(again) == {"AP": 0.25}
    assert again.step == 6


SCRIPT = """
import os, sys
from pathlib import Path
import torch
from core.runner.tiny import tiny_run
from detcore.runner.train import train

write = torch.save
def half(content, file):
    if content["at"]["step"] == 5:
        file.write(b"PK half of it")
        file.flush()
        os._exit(9)
    write(content, file)
torch.save = half
train(tiny_run(Path(sys.argv[1]), save_every=1))
"""


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, check=False)
    assert ended.returncode == 9
    run = tiny_run(tmp_path)
    resume(run, last(run))
    assert (run.step, run.position) == (4, 4)
    train(run)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.pt"]


def saved(folder: Path, **more: Any) -> Path:
    run = run_of(folder, length=2, epochs=1, **more)
    train(run)
    return last(run)


def test_a_checkpoint_holds_what_a_reader_needs(tmp_path: Path) -> None:
    content = read(saved(tmp_path, meta={"config": "a = 1", "plugins": {"detcore-x": "0.1.0"}}))
    assert content["meta"] == {"config": "a = 1", "plugins": {"detcore-x": "0.1.0"}}
    assert content["same"]["classes"] == ["cat", "dog"]
    assert content["preprocess"]["divisor"] == 8
    assert content["at"] == {"epoch": 1, "position": 0, "step": 1, "stop": False, "best": 0.25, "validated": 1}
    assert content["metrics"] == {"AP": 0.25}
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.pt", "last.pt"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"seed": 9}, "is of a run with seed 3, not 9."),
        ({"batch_size": 1}, "is of a run with steps per epoch 1, not 2."),
        (
            {"dataset": TinyDataset(2, classes=("cat", "cow", "ox", "ass"))},
            "train.dataset and checkpoint have different classes: only train.dataset has cow, ox, ass; "
            "only checkpoint has dog.",
        ),
    ],
)
def test_a_run_is_resumed_with_what_it_began_with(tmp_path: Path, more: dict[str, Any], line: str) -> None:
    path = saved(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        resume(run_of(tmp_path, **{"length": 2, **more}), path)
    assert str(caught.value).partition("\nclass ")[0] == f"{path}: {line} A run is resumed with what it began with."


def test_another_architecture_is_told_and_nothing_is_loaded(tmp_path: Path) -> None:
    path = saved(tmp_path)
    detector = TinyDetector()
    detector.conv = nn.Conv2d(3, 4, 5)
    detector.extra = nn.Linear(1, 1)
    del detector.norm
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    run = tiny_run(tmp_path, length=2, detector=detector, optimizer=adam(detector))
    with pytest.raises(CheckpointError) as caught:
        resume(run, path)
    assert str(caught.value) == (
        f"{path}: is of another architecture: loaded 1 tensors (1.3 % of the parameters), "
        "2 missing (extra.weight, extra.bias), "
        "5 unexpected (norm.weight, norm.bias, norm.running_mean and 2 more), "
        "1 mismatched (conv.weight 4x3x3x3 for 4x3x5x5)"
    )
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_another_optimizer_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        resume(tiny_run(tmp_path, length=2), path)
    assert str(caught.value) == f"{path}: is of another optimizer: AdamW, not SGD"
    detector = TinyDetector()
    optimizer = torch.optim.AdamW([{"params": [each]} for each in detector.parameters()])
    with pytest.raises(CheckpointError, match=r"is of another optimizer: .* different number of parameter groups$"):
        resume(tiny_run(tmp_path, length=2, detector=detector, optimizer=optimizer), path)


class Code:
    def __reduce__(self) -> Any:
        return os.mkdir, (str(Path.cwd() / "was_run"),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    torch.save({"model": Code()}, path) if zipped else path.write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: holds code (posix.mkdir), which is not run. Save model.state_dict() alone."
    assert not (tmp_path / "was_run").exists()


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    whole = saved(tmp_path / "run").read_bytes()
    files = {
        "text": b"hello world",
        "pickle": pickle.dumps({}, protocol=5),
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "head": whole[:40],
        "random": bytes(range(256)),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    torch.save([1, 2], tmp_path / "list")
    torch.save({"lr": 1}, tmp_path / "bare")
    lines = {
        "text": "is not a checkpoint",
        "empty": "is not a checkpoint",
        "random": "is not a checkpoint",
        "pickle": "holds code (a pickle), which is not run. Save model.state_dict() alone.",
        "cut": "is cut short or damaged",
        "head": "is cut short or damaged",
        "list": "holds a list, not a checkpoint",
        "bare": "holds no weights",
        "nowhere": "does not exist",
        "run": "is a folder, not a file",
    }
    for name, line in lines.items():
        with pytest.raises(CheckpointError) as caught:
            load_weights(TinyDetector(), tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {line}"


def test_a_file_that_the_system_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.pt").touch()

    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "x.pt")
    assert str(caught.value) == f"{tmp_path / 'x.pt'}: cannot be read: Permission denied"


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    torch.save(TinyDetector().state_dict(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError) as caught:
        resume(run_of(tmp_path), tmp_path / "w.pt")
    line = "holds weights, but not the state of a run. Load it as weights instead."
    assert str(caught.value) == f"{tmp_path / 'w.pt'}: {line}"


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_weights_load_with_a_report(tmp_path: Path, key: str | None) -> None:
    source, path = TinyDetector(), tmp_path / "w.pt"
    torch.save({key: source.state_dict()} if key else source.state_dict(), path)
    target = TinyDetector()
    report = load_weights(target, path)
    assert report.complete
    assert str(report) == "loaded 7 tensors (100.0 % of the parameters)"
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_weights_under_a_prefix_and_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(9)}, path)
    target = nn.Conv2d(3, 4, 3)
    bias = target.bias.clone()
    report = load_weights(target, path, prefix="conv.")
    assert (target.weight == 1).all()
    assert torch.equal(target.bias, bias)
    assert report.mismatched == {"bias": ((9,), (4,))}
    assert report.percent == pytest.approx(100 * 108 / 112)
    with pytest.raises(CheckpointError) as caught:
        load_weights(target, path)
    assert str(caught.value) == (
        f"{path}: nothing in it fits Conv2d: loaded 0 tensors (0.0 % of the parameters), "
        "2 missing (weight, bias), 2 unexpected (conv.weight, conv.bias)"
    )
    assert not compare(target, {}).complete


def test_a_state_that_is_not_plain_is_refused_before_it_is_written(tmp_path: Path) -> None:
    import numpy as np

    class Bad(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"best": [1.0, np.float64(2)]}

    with pytest.raises(ComponentError) as caught:
        save(run_of(tmp_path, callbacks={"best": Bad()}), tmp_path / "x.pt")
    assert str(caught.value) == "checkpoint.callbacks.best.best[1]: numpy.float64 is neither a tensor nor a plain value"
    assert not (tmp_path / "x.pt").exists()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    write_atomically({"a": 1}, path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(UserError) as caught:
        write_atomically({"a": 2}, path)
    assert (
        str(caught.value)
        == f"{path}: cannot be written: [Errno 28] No space left on device. The one from before is whole."
    )
    assert read(path) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["x.pt"]


def test_a_callback_that_cannot_give_or_take_its_state_is_named(tmp_path: Path) -> None:
    class Gives(Callback):
        def state_dict(self) -> dict[str, Any]:
            raise ZeroDivisionError("no")

    with pytest.raises(ComponentError, match=r"^callback x: state_dict raised ZeroDivisionError: no$"):
        save(tiny_run(tmp_path, callbacks={"x": Gives()}), tmp_path / "a.pt")
    save(tiny_run(tmp_path, callbacks={"x": Callback()}), tmp_path / "b.pt")
    with pytest.raises(ComponentError, match=r"^callback x: load_state_dict raised KeyError: 'steps'$"):
        resume(tiny_run(tmp_path, callbacks={"x": Counts()}), tmp_path / "b.pt")
