"""Callbacks that tell how a run goes: on the console and in a file of JSON lines."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import torch

from detcore import distributed
from detcore.interfaces import Callback
from detcore.runner.bar import Bar, fits_here
from detcore.runner.parameters import parameter_table
from detcore.runner.state import Run
from detcore.structures import Losses


class ConsoleLog(Callback):
    """Says where a run stands: in one line per report or, on a terminal, in a bar that leaves one line per epoch."""

    stage: ClassVar[str] = "report"

    def __init__(self) -> None:
        self.bar: Bar | None = None
        self.began = time.perf_counter(), 0
        self.numbers = self.line = ""
        self.told: set[Path] = set()

    def run_started(self, run: Run) -> None:
        """What is trained, on what, where, and from where it goes on."""
        self.began = time.perf_counter(), run.step
        for name, text in _facts(run).items():
            _say(f"{name:<8}{text}")
        _say(parameter_table(run.detector))
        self.bar = Bar(self) if fits_here() else None

    def epoch_started(self, run: Run) -> None:
        """The line of the epoch before."""
        self._leave_line()

    def step_done(self, run: Run, losses: Losses) -> None:
        """The bar, where it is old."""
        if self.bar and self.bar.due():
            self.bar.draw(_epoch(run), run.position, len(run.loader), self._left(run), self.numbers)

    def reported(self, run: Run, values: Mapping[str, float]) -> None:
        """``epoch 1/12  step 50/7330  loss 1.5  loss_cls 1.1  loss_box 0.4  lr 0.01  0.12 s/step, 3 % data ...``."""
        self.numbers = f"{_numbers(values)}, {peak_memory(run.device) / 2**30:.1f} GiB"
        self.line = f"{_where(run)}  {self.numbers}"
        if not self.bar:
            _say(f"{self.line}  {self._left(run)}")
            self.line = ""

    def evaluation_progress(self, run: Run, done: int, total: int) -> None:
        """The bar, where it is old."""
        if self.bar and self.bar.due():
            self.bar.draw(f"{_epoch(run)}  validation", done, total, "", self.numbers)

    def evaluated(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Metrics, but those of classes (``AP/cat``), in a line or, where the terminal is too narrow, in columns."""
        self._leave_line()
        cells = [f"{name} {value:.4g}" for name, value in metrics.items() if "AP/" not in name]
        line = "  ".join([_where(run), "validation", *cells])
        width = self.bar.width if self.bar else len(line)
        _say(line if len(line) <= width else "\n".join([f"{_where(run)}  validation", *_columns(cells, width)]))

    def checkpoint_saved(self, run: Run, path: Path) -> None:
        """Where it is, once."""
        if path not in self.told:
            _say(f"{_where(run)}  saved {path}")
            self.told.add(path)

    def run_ended(self, run: Run) -> None:
        """How long it took."""
        self._leave_line()
        self._close()
        _say(f"{run.step - self.began[1]} steps in {_duration(time.perf_counter() - self.began[0])}")

    def run_failed(self, run: Run, error: BaseException) -> None:
        """What was reported last stays."""
        self._leave_line()
        self._close()

    def _close(self) -> None:
        if self.bar:
            self.bar.close()

    def _leave_line(self) -> None:
        if self.line:
            _say(self.line)
            self.line = ""

    def _left(self, run: Run) -> str:
        """Validations and checkpoints are in the mean, as they are in what is to come."""
        began, first = self.began
        seconds = (time.perf_counter() - began) / max(run.step - first, 1)
        return f"left {_duration(seconds * (run.progress.steps - run.step))}"


class JsonlLog(Callback):
    """Appends one JSON object per report and validation to a file of the run's folder.

    Every object has ``kind``, ``epoch`` (counted from 1) and ``step``; numbers that are not finite are null.

    Args:
        file: Its name.
    """

    stage: ClassVar[str] = "report"

    def __init__(self, *, file: str = "log.jsonl") -> None:
        self.file = file

    def run_started(self, run: Run) -> None:
        """A line that tells a resumed run from a new one."""
        self._write(run, "started", {"steps": run.progress.steps, "steps_per_epoch": run.progress.steps_per_epoch})

    def reported(self, run: Run, values: Mapping[str, float]) -> None:
        """The means since the last report."""
        self._write(run, "train", values)

    def evaluated(self, run: Run, metrics: Mapping[str, float]) -> None:
        """The metrics."""
        self._write(run, "validation", metrics)

    def _write(self, run: Run, kind: str, values: Mapping[str, float]) -> None:
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"kind": kind, "epoch": run.epoch + 1, "step": run.step, **numbers})
        with (run.folder / self.file).open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use at once: of the device where it counts them, else of this process."""
    if device.type in ("cuda", "xpu"):
        most: int = torch.get_device_module(device).max_memory_allocated(device)
        return most
    try:
        import resource  # noqa: PLC0415 (Windows has none)
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _facts(run: Run) -> dict[str, str]:
    loader, name = run.loader, str(run.device)
    if run.device.type == "cuda":
        name += f" ({torch.cuda.get_device_name(run.device)})"
    if distributed.world_size() > 1:
        name += f", {distributed.world_size()} processes"
    trained = sum(parameter.numel() for parameter in run.detector.parameters() if parameter.requires_grad)
    summed = f", gradients of {run.accumulate} summed" if run.accumulate > 1 else ""
    facts = {
        "model": f"{type(run.detector).__name__}, {trained:,} trained parameters",
        "data": f"{len(loader.dataset):,} images, {len(loader):,} batches of {loader.batch_size} per epoch{summed}",
        "device": name if run.amp == "off" else f"{name}, {run.amp}",
        "folder": str(run.folder),
    }
    return {**facts, "resumed": _where(run)} if run.step else facts


def _numbers(values: Mapping[str, float]) -> str:
    """Losses, what else the detector tells, the learning rate, then time."""
    known = {name: values[name] for name in ("lr", "step_s", "data_s", "dropped") if name in values}
    scalars = {name: value for name, value in values.items() if name not in known}
    ordered = sorted(scalars, key=lambda name: "loss" not in name)
    cells = [f"{name} {scalars[name]:.4g}" for name in ordered]
    cells += [f"{name} {known[name]:.4g}" for name in ("lr", "dropped") if name in known]
    seconds, waited = known["step_s"], known["data_s"]
    speed = f"{seconds:.2f} s/step" if seconds >= 0.1 else f"{seconds * 1000:.2g} ms/step"
    return "  ".join([*cells, f"{speed}, {waited / max(seconds, 1e-9):.0%} data".replace("%", " %")])


def _columns(cells: Sequence[str], width: int) -> list[str]:
    """Lines of cells, each as wide as the widest."""
    wide = max(map(len, cells)) + 2
    count = max((width - 2) // wide, 1)
    rows = (cells[start : start + count] for start in range(0, len(cells), count))
    return ["  " + "".join(cell.ljust(wide) for cell in row).rstrip() for row in rows]


def _epoch(run: Run) -> str:
    epochs = -(-run.progress.steps // run.progress.steps_per_epoch)
    return f"epoch {min(run.epoch + 1, epochs)}/{epochs}"


def _where(run: Run) -> str:
    return f"{_epoch(run)}  step {run.step}/{run.progress.steps}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _say(text: str) -> None:
    print(text, flush=True)
