"""What is seen while a run goes: on a pseudo-terminal, and piped."""

from __future__ import annotations

import re
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest
import torch
from core.runner.terminal import Screen, Terminal, standard_output, start
from core.runner.tiny import tiny_run
from detcore.interfaces import Callback
from detcore.runner import bar
from detcore.runner.evaluate import Evaluation
from detcore.runner.logs import ConsoleLog, peak_memory
from detcore.runner.train import train

METRICS = {"AP": 0.3731, "AP50": 0.571, "AP75": float("nan"), **{f"AP_{size}": 0.25 for size in ("small", "medium")}}
METRICS |= {"AP/cat": 0.1, "AP/dog": 0.2}  # of classes: for files, there may be a thousand
FAILS = """
import click
from pathlib import Path
from core.runner.tiny import TinyDetector, tiny_run
from detcore.errors import DataError, UserError
from detcore.runner.evaluate import Evaluation
from detcore.runner.logs import ConsoleLog
from detcore.runner.train import train
import time

class Fails(TinyDetector):
    def losses(self, batch):
        if self.calls == 3:
            {what}
        self.calls += 1
        return super().losses(batch)

detector = Fails()
detector.calls = 0
run = tiny_run(Path("{folder}"), detector=detector, report_every=2, callbacks={{"console": ConsoleLog()}})
try:
    train(run)
except UserError as error:
    click.echo(str(error), err=True)
    raise SystemExit(2)
"""


class Look(Callback):
    """Keeps what is on the screen after each step and each evaluated batch."""

    stage: ClassVar[str] = "save"

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.seen: list[str] = []

    def step_done(self, run: Any, losses: Any) -> None:
        time.sleep(0.02)  # the reader is a thread
        self.seen.append(self.terminal.screen().text)


def shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *callbacks: Callback, width: int = 90, **more: Any
) -> tuple[Screen, Terminal, list[str]]:
    """A run on a terminal, the bar drawn at every step: the last screen, all output, the screens after each step."""
    monkeypatch.setattr(bar, "SECONDS", 0.0)
    terminal = Terminal(width)
    look = Look(terminal)
    with standard_output(terminal, monkeypatch):
        named = {"console": ConsoleLog(), **{str(number): each for number, each in enumerate(callbacks)}, "look": look}
        train(
            tiny_run(
                folder, **{"report_every": 2, "evaluate": lambda *_: Evaluation(METRICS), "callbacks": named, **more}
            )
        )
    return terminal.close(), terminal, look.seen


def test_a_terminal_shows_a_bar_with_the_last_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, seen = shown(tmp_path, monkeypatch)
    assert re.search(r"\nepoch 1/2  ━+[╸╺]?━+  1/6  left 0:00:\d\d$", seen[0])
    *_, head, numbers = seen[4].splitlines()
    assert re.fullmatch(r"epoch 1/2  [━╸╺]{40}  5/6  left 0:00:\d\d", head)
    assert re.match(r"loss \S+  loss_box \S+  loss_l1 \S+  seen \S+  lr 0.01  \S+ m?s/step, ", numbers)
    assert all(screen.count("left") == 1 for screen in seen)


def test_what_stays_is_a_line_per_epoch_and_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, _, _ = shown(tmp_path, monkeypatch, width=200)
    lines = screen.text.splitlines()
    assert screen.cursor
    assert lines[0] == "model   TinyDetector, 120 trained parameters"
    assert lines[1] == "data    12 images, 6 batches of 2 per epoch"
    assert lines[2:4] == ["device  cpu", f"folder  {tmp_path}"]
    epochs = [line for line in lines if "  loss " in line]
    assert [line.partition("  loss")[0] for line in epochs] == ["epoch 1/2  step 6/12", "epoch 2/2  step 12/12"]
    metrics = "  AP 0.3731  AP50 0.571  AP75 nan  AP_small 0.25  AP_medium 0.25"
    assert f"epoch 1/2  step 6/12  validation{metrics}" in lines
    assert lines[-1].startswith("12 steps in 0:00:")
    assert sum("saved" in line for line in lines) == 1
    assert "left" not in screen.text


def test_metrics_that_do_not_fit_stand_in_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, _, _ = shown(tmp_path, monkeypatch, width=60, epochs=1)
    expected = """epoch 1/1  step 6/6  validation
  AP 0.3731       AP50 0.571      AP75 nan
  AP_small 0.25   AP_medium 0.25"""
    assert expected in screen.text


@pytest.mark.parametrize("width", [1, 7, 20, 41, 59])
def test_a_narrow_terminal_cuts_the_bar(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, terminal, seen = shown(tmp_path, monkeypatch, width=width)
    assert screen.cursor
    assert not re.search(r"left|━", screen.text.replace("\n", ""))
    assert max(len(row) for row in screen.rows) <= width
    assert "…" in terminal.output
    assert len(seen) == 12


def test_other_output_comes_above_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Talks(Callback):
        def step_done(self, run: Any, losses: Any) -> None:
            print("printed", run.step)
            click.echo(f"echoed {run.step}")
            sys.stdout.write("whole lines\nonly\n")

    screen, _, seen = shown(tmp_path, monkeypatch, Talks(), epochs=1, report_every=99)
    talk = [line for step in range(1, 7) for line in (f"printed {step}", f"echoed {step}", "whole lines", "only")]
    assert screen.text.splitlines()[8:32] == talk
    assert seen[2].splitlines()[8:-1] == talk[:12]


def test_a_file_that_standard_error_goes_to_gets_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Warns(Callback):
        def step_done(self, run: Any, losses: Any) -> None:
            warnings.warn("be careful", stacklevel=1)

    with (tmp_path / "errors").open("w") as errors, warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: sys.stderr.write(f"{message}\n"))
        monkeypatch.setattr(sys, "stderr", errors)
        screen, _, _ = shown(tmp_path, monkeypatch, Warns(), epochs=1)
    assert (tmp_path / "errors").read_text() == "be careful\n" * 6
    assert "careful" not in screen.text


def test_no_color_means_no_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colour = re.compile(r"\x1b\[(?:\d+;)*[349][0-7](?:;\d+)*m|\x1b\[38")
    assert colour.search(shown(tmp_path / "a", monkeypatch)[1].output)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(shown(tmp_path / "b", monkeypatch)[1].output)


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(90)
    with standard_output(terminal, monkeypatch):
        monkeypatch.setenv("TERM", "dumb")
        train(tiny_run(tmp_path, epochs=1, report_every=2, callbacks={"console": ConsoleLog()}))
    terminal.close()
    assert "\x1b" not in terminal.output
    assert terminal.output.count("  loss ") == 3


def test_standard_streams_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(90)
    with standard_output(terminal, monkeypatch, ("stdout", "stderr")):
        before = sys.stdout, sys.stderr
        run = tiny_run(tmp_path, callbacks={"console": ConsoleLog()})
        run.callbacks["console"].run_started(run)
        assert sys.stdout is not before[0]
        assert sys.stderr is not before[1]
        assert not bar.fits_here()  # a second bar would garble the first
        del run  # an exception left it behind
        assert (sys.stdout, sys.stderr) == before
    assert terminal.close().cursor


def test_an_error_leaves_the_terminal_clean(tmp_path: Path) -> None:
    terminal = Terminal(90)
    program = start(terminal, FAILS.format(what="raise DataError('image 7', 'is broken')", folder=tmp_path), {})
    assert program.wait(120) == 2
    screen = terminal.close()
    assert "1/6" in terminal.output
    assert screen.text.splitlines()[-1] == "image 7: is broken"
    assert not re.search(r"━|left", screen.text)
    assert screen.cursor


def test_ctrl_c_leaves_the_terminal_clean(tmp_path: Path) -> None:
    terminal = Terminal(90)
    program = start(terminal, FAILS.format(what="time.sleep(0.2); self.calls = 2", folder=tmp_path), {})
    limit = time.monotonic() + 120
    while "━" not in terminal.output and program.poll() is None and time.monotonic() < limit:
        time.sleep(0.1)
    program.send_signal(signal.SIGINT)
    assert program.wait(120) == 2
    screen = terminal.close()
    assert "━" in terminal.output
    assert "endedbySIGINTafterstep" in re.sub(r"\s", "", screen.text)
    assert not re.search(r"━|left", screen.text)
    assert screen.cursor


def test_piped_output_is_one_line_per_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(
        tmp_path, report_every=3, callbacks={"console": ConsoleLog()}, evaluate=lambda *_: Evaluation(METRICS)
    )
    train(run)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    reports = [line for line in text.splitlines() if "  loss " in line]
    pattern = (
        r"epoch 1/2  step 3/12  loss [\d.]+  loss_box [\d.]+  loss_l1 [\d.]+  seen [\d.]+  lr 0\.01  "
        r"(\d+\.\d\d s|[\d.]+ ms)/step, \d+ % data, \d+\.\d GiB  left 0:00:\d\d"
    )
    assert re.fullmatch(pattern, reports[0])
    assert len(reports) == 4


def test_losses_come_first_and_times_have_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(**values: float) -> str:
        log = ConsoleLog()
        log.reported(run, {"lr": 1e-5, "grad_norm": 2.0, "loss": 1.25, "loss_cls": 1.25, **values})
        return re.sub(r", \S+ GiB  left .*", "", capsys.readouterr().out).strip()

    run = tiny_run(tmp_path)
    start_, losses = "epoch 1/2  step 0/12  ", "loss 1.25  loss_cls 1.25  grad_norm 2  lr 1e-05  "
    assert line(step_s=0.5, data_s=0.1) == f"{start_}{losses}0.50 s/step, 20 % data"
    assert line(step_s=0.0123, data_s=0.0) == f"{start_}{losses}12 ms/step, 0 % data"
    assert line(step_s=0.0, data_s=0.0, dropped=3) == f"{start_}{losses}dropped 3  0 ms/step, 0 % data"


def test_a_resumed_run_says_where_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(tmp_path)
    run.epoch, run.position, run.step = 1, 2, 8
    ConsoleLog().run_started(run)
    assert "resumed epoch 2/2  step 8/12" in capsys.readouterr().out.splitlines()


def test_evaluation_progress_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(70)
    with standard_output(terminal, monkeypatch):
        run = tiny_run(tmp_path, callbacks={"console": ConsoleLog()})
        log = run.callbacks["console"]
        log.run_started(run)
        log.evaluation_progress(run, 3, 20)
        time.sleep(0.1)
        seen = terminal.screen().text
        log.evaluation_progress(run, 4, 20)  # too early
        log.run_ended(run)
    terminal.close()
    assert re.search(r"\nepoch 1/2  validation  [━╸╺]+  3/20$", seen)
    assert "4/20" not in terminal.output


def test_the_bar_is_drawn_four_times_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(bar.time, "perf_counter", lambda: now[0])
    terminal = Terminal(70)
    drawn: list[Mapping[str, Any]] = []
    with standard_output(terminal, monkeypatch):
        run = tiny_run(tmp_path, callbacks={"console": ConsoleLog()})
        log = run.callbacks["console"]
        log.run_started(run)
        monkeypatch.setattr(log.bar.live, "update", lambda *_, **options: drawn.append(options))
        for now[0] in torch.linspace(100.0, 101.0, 101).tolist():
            log.step_done(run, {})
        log.run_ended(run)
    terminal.close()
    assert 4 <= len(drawn) <= 5


def test_memory_of_a_process_is_in_bytes() -> None:
    assert 2**26 < peak_memory(torch.device("cpu")) < 2**40
