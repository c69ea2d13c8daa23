"""The pictures that a run keeps in its folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import attrs
from pydantic import NonNegativeFloat

from detcore.curves import curves
from detcore.errors import UserError
from detcore.interfaces import Callback
from detcore.pictures import samples_sheet
from detcore.runner.evaluate import Evaluation
from detcore.runner.state import Run

PAUSE = 60.0
"""Seconds that pictures are good for."""


class Pictures(Callback):
    """Keeps two pictures of the run in its folder: ``curves.png`` and ``samples.png``, from its last validation.

    They are drawn after the first validation, then at most once a minute, and at the end. One that cannot be made is a
    line on the console; the run goes on.

    Args:
        threshold: The score from which on a detection is drawn.
    """

    stage: ClassVar[str] = "report"

    def __init__(self, *, threshold: NonNegativeFloat = 0.3) -> None:
        self.threshold = threshold
        self.found: Evaluation | None = None
        self.drawn = -math.inf

    def evaluated(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Both, unless they are new."""
        self.found = run.evaluation and attrs.evolve(run.evaluation, results=())
        if time.monotonic() - self.drawn >= PAUSE:
            self.run_ended(run)

    def run_ended(self, run: Run) -> None:
        """Both."""
        log, path, sheet = run.folder / "log.jsonl", run.folder / "curves.png", run.folder / "samples.png"
        _try(lambda: curves(log, path), path)
        found = self.found
        if found is not None and found.dataset is not None and found.samples:
            dataset, samples = found.dataset, found.samples
            _try(lambda: samples_sheet(dataset, samples, sheet, threshold=self.threshold), sheet)
        self.drawn = time.monotonic()


def _try(make: Callable[[], None], path: Path) -> None:
    try:
        make()
    except (UserError, OSError) as error:
        print(f"{path} was not written: {error}", flush=True)
