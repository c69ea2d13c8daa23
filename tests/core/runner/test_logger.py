"""What a logger is told, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from core.runner.tiny import tiny_run
from detcore.callbacks.logger import Logger
from detcore.errors import ComponentError
from detcore.interfaces import Callback
from detcore.runner.evaluate import Evaluation
from detcore.runner.train import train


class Memory(Logger):
    """Keeps what it is told; ``fails`` names the call that raises."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[tuple[Any, ...]] = []

    def told(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] == self.fails:
            raise ConnectionError("the server\nis gone")

    def open(self, run: Any) -> None:
        self.told("open", run.step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.told("scalars", step, dict(values))

    def picture(self, path: Path, step: int) -> None:
        self.told("picture", step, path.name)

    def close(self, *, failed: bool) -> None:
        self.told("close", failed)


class Draws(Callback):
    """Writes what the picture of a run would be."""

    def evaluated(self, run: Any, metrics: Any) -> None:
        (run.folder / "samples.png").touch()


def scored(*_: Any) -> Evaluation:
    return Evaluation({"AP": 0.25, "AP50": 0.5})


def test_a_logger_is_told_numbers_with_their_steps(tmp_path: Path) -> None:
    log = Memory()
    train(tiny_run(tmp_path, epochs=1, report_every=3, evaluate=scored, callbacks={"log": log, "draws": Draws()}))
    opened, first, second, metrics, picture, closed = log.calls
    assert (opened, closed) == (("open", 0), ("close", False))
    assert [first[1], second[1]] == [3, 6]
    assert {"train/lr", "train/loss", "train/loss_box", "train/step_s", "train/data_s"} <= set(first[2])
    assert metrics == ("scalars", 6, {"val/AP": 0.25, "val/AP50": 0.5, "best/AP": 0.25})
    assert picture == ("picture", 6, "samples.png")


def test_without_a_picture_none_is_sent(tmp_path: Path) -> None:
    log = Memory()
    train(tiny_run(tmp_path, epochs=1, evaluate=scored, callbacks={"log": log}))
    assert {call[0] for call in log.calls} == {"open", "scalars", "close"}


@pytest.mark.parametrize("fails", ["scalars", "picture", "close"])
def test_what_fails_is_told_once_and_the_run_goes_on(
    fails: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Memory(fails)
    run = tiny_run(tmp_path, report_every=3, evaluate=scored, callbacks={"log": log, "draws": Draws()})
    train(run)
    assert run.step == 12
    assert [call[0] for call in log.calls].count(fails) == 1
    assert log.calls[-1][0] == fails
    assert capsys.readouterr().err == ("warning: Memory failed and logs no more: ConnectionError: the server is gone\n")


def test_what_fails_at_the_start_is_an_error(tmp_path: Path) -> None:
    log = Memory("open")
    with pytest.raises(ComponentError, match="callback log: run_started raised ConnectionError"):
        train(tiny_run(tmp_path, callbacks={"log": log}))
    assert log.calls[-1] == ("close", True)


def test_a_run_that_fails_is_closed_as_such(tmp_path: Path) -> None:
    class Fails(Callback):
        def epoch_started(self, run: Any) -> None:
            raise ZeroDivisionError

    log = Memory()
    with pytest.raises(ComponentError):
        train(tiny_run(tmp_path, callbacks={"fails": Fails(), "log": log}))
    assert log.calls == [("open", 0), ("close", True)]
