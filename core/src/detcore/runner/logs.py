"""Callbacks that tell how a run goes: on the console and in a file of JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from detcore.interfaces import Callback
from detcore.runner.state import Run


class ConsoleLog(Callback):
    """Prints one line per report, validation and checkpoint."""

    stage: ClassVar[str] = "report"

    def run_started(self, run: Run) -> None:
        """Says where the run stands, and where it writes."""
        parameters = sum(parameter.numel() for parameter in run.detector.parameters() if parameter.requires_grad)
        _print(f"{parameters:,} trained parameters on {run.device}, {len(run.loader)} steps per epoch, {run.folder}")
        if run.step:
            _print(f"resumed at {_where(run)}")

    def reported(self, run: Run, values: Mapping[str, float]) -> None:
        """``epoch 1/12  step 50/7330  lr 0.01  loss 1.5  loss_cls 1.1  loss_box 0.4  step_s 0.12 ...``."""
        left = (run.progress.steps - run.step) * values["step_s"]
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        _print(f"{_where(run)}  {numbers}  left {timedelta(seconds=round(left))}")

    def evaluated(self, run: Run, metrics: Mapping[str, float]) -> None:
        """All metrics in one line."""
        _print(f"{_where(run)}  validation  " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))

    def checkpoint_saved(self, run: Run, path: Path) -> None:
        """Where it is."""
        _print(f"{_where(run)}  saved {path}")


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
        self._write(run, "started", {"steps": run.progress.steps, "steps_per_epoch": len(run.loader)})

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


def _where(run: Run) -> str:
    return f"epoch {min(run.epoch + 1, run.epochs)}/{run.epochs}  step {run.step}/{run.progress.steps}"


def _print(line: str) -> None:
    print(line, flush=True)
