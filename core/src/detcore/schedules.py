"""Factors of the learning rate as pure functions of progress; the schedules of a run are multiplied."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detcore.errors import ConfigError
from detcore.interfaces import Progress, Schedule


class LinearWarmup(Schedule):
    """From ``start_factor`` in a straight line to 1, which the step after the last of ``steps`` has first.

    Args:
        steps: Length in steps; or
        epochs: length in epochs.
        start_factor: The factor of the very first step.
    """

    def __init__(self, *, steps: int | None = None, epochs: float | None = None, start_factor: float = 0.001) -> None:
        _one_of("LinearWarmup", steps=steps, epochs=epochs)
        self.steps = steps
        self.epochs = epochs
        self.start_factor = start_factor

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        length = self.steps if self.steps is not None else (self.epochs or 0) * progress.steps_per_epoch
        if progress.step >= length:
            return 1.0
        return self.start_factor + (1 - self.start_factor) * progress.step / length


class MultiStep(Schedule):
    """Multiplied by ``gamma`` at each milestone.

    Args:
        epochs: Milestones in epochs done; or
        steps: milestones in steps done.
        gamma: The factor of each.
    """

    def __init__(
        self, *, epochs: Sequence[float] | None = None, steps: Sequence[int] | None = None, gamma: float = 0.1
    ) -> None:
        _one_of("MultiStep", epochs=epochs, steps=steps)
        self.epochs = epochs
        self.steps = steps
        self.gamma = gamma

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        milestones = (
            self.steps if self.steps is not None else [epoch * progress.steps_per_epoch for epoch in self.epochs or ()]
        )
        return float(self.gamma ** sum(progress.step >= milestone for milestone in milestones))


class Cosine(Schedule):
    """Half a cosine from 1 to ``end_factor`` (Loshchilov & Hutter, SGDR, without restarts), constant before and after.

    Args:
        end_factor: The factor at the end.
        begin: Epoch at which it begins to fall.
        end: Epoch from which it has ``end_factor``; None is the end of the run.
    """

    def __init__(self, *, end_factor: float = 0.0, begin: float = 0.0, end: float | None = None) -> None:
        self.end_factor = end_factor
        self.begin = begin
        self.end = end

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        first = self.begin * progress.steps_per_epoch
        last = progress.steps if self.end is None else self.end * progress.steps_per_epoch
        done = min(max((progress.step - first) / max(last - first, 1), 0.0), 1.0)
        return self.end_factor + (1 - self.end_factor) * (1 + math.cos(math.pi * done)) / 2


def learning_rate_factor(schedules: Sequence[Schedule], progress: Progress) -> float:
    """The product of all schedules."""
    return math.prod(schedule(progress) for schedule in schedules)


def _one_of(schedule: str, **lengths: object) -> None:
    given = [name for name, value in lengths.items() if value is not None]
    if len(given) != 1:
        found = f"takes one of {' and '.join(lengths)}, found {' and '.join(given) or 'neither'}"
        raise ConfigError(f"schedule {schedule}", found)
