"""What tells another program of a run; plugins say which."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from detcore.errors import one_line
from detcore.interfaces import Callback


class Logger(Callback, ABC):
    """Sends the numbers of a run elsewhere, and the picture that is drawn after a validation.

    Numbers are called ``train/loss``, ``train/lr``, ..., ``val/AP``, ... and ``best/AP``. What fails when a run starts
    is an error; what fails later (a server that is gone, a full disk) is told once, and the run goes on without.
    """

    stage: ClassVar[str] = "save"  # after those that write the picture

    silent = False
    """It failed: nothing is sent any more."""

    @abstractmethod
    def open(self, run: Any) -> None:
        """A run starts, or goes on."""

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, after ``step`` steps; they need not be finite."""

    @abstractmethod
    def picture(self, path: Path, step: int) -> None:
        """A PNG file, to be called ``samples``."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """The run is over; also called where :meth:`open` raised."""

    def run_started(self, run: Any) -> None:
        """Opens."""
        self.open(run)

    def reported(self, run: Any, values: Mapping[str, float]) -> None:
        """Sends the means since the last report."""
        self._try(lambda: self.scalars({f"train/{name}": value for name, value in values.items()}, run.step))

    def evaluated(self, run: Any, metrics: Mapping[str, float]) -> None:
        """Sends metrics, the best value so far, and the picture."""
        values = {f"val/{name}": value for name, value in metrics.items()}
        if run.best is not None:
            values[f"best/{run.best_metric or next(iter(metrics))}"] = run.best
        self._try(lambda: self.scalars(values, run.step))
        path = run.folder / "samples.png"
        if path.is_file():
            self._try(lambda: self.picture(path, run.step))

    def run_ended(self, run: Any) -> None:
        """Closes."""
        self._try(lambda: self.close(failed=False))

    def run_failed(self, run: Any, error: BaseException) -> None:
        """Closes."""
        self._try(lambda: self.close(failed=True))

    def _try(self, call: Callable[[], None]) -> None:
        if self.silent:
            return
        try:
            call()
        except Exception as error:
            self.silent = True
            print(f"warning: {type(self).__name__} failed and logs no more: {one_line(error)}", file=sys.stderr)
