"""An end to a run that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveInt

from detcore.errors import ConfigError, did_you_mean
from detcore.interfaces import Callback
from detcore.runner.state import Run


class EarlyStopping(Callback):
    """Ends the run with an epoch when a metric has not got better for some validations.

    Args:
        metric: Its name; None: the first one.
        patience: So many validations in a row may be no better than the best before.
        min_delta: What is better by no more than this counts as no better.
        mode: Whether ``max`` or ``min`` is best.
    """

    stage: ClassVar[str] = "evaluate"

    def __init__(
        self,
        *,
        metric: str | None = None,
        patience: PositiveInt = 10,
        min_delta: NonNegativeFloat = 0.0,
        mode: Literal["max", "min"] = "max",
    ) -> None:
        self.metric = metric
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode
        self.best = -math.inf
        self.waited = 0

    def run_started(self, run: Run) -> None:
        """Raises ConfigError where nothing is validated."""
        if run.evaluate is None:
            raise ConfigError("EarlyStopping", "there is no validation to watch", "Write a section [val].")

    def evaluated(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Watch the metric. Raises ConfigError where there is none of this name."""
        name = next(iter(metrics), "") if self.metric is None else self.metric
        if name not in metrics:
            fix = f"{did_you_mean(name, metrics)} There are: {', '.join(metrics) or 'none'}.".strip()
            raise ConfigError("EarlyStopping: metric", f'no metric is called "{name}"', fix)
        value = metrics[name] if self.mode == "max" else -metrics[name]
        if value > self.best + self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.waited >= self.patience:
            run.stop = True
            best = self.best if self.mode == "max" else -self.best
            print(f"stopped early: {self.waited} validations without {name} better than {best:.4g}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        """The best value and how long ago it was."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.best, self.waited = state["best"], state["waited"]
