"""Factors of the learning rate as pure functions of progress; the schedules of a run are multiplied."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from detcore.errors import ConfigError
from detcore.interfaces import Progress, Schedule


@attrs.frozen(kw_only=True)
class LinearWarmup(Schedule):
    """From ``start_factor`` in a straight line to 1, which the step after the last of ``steps`` has first.

    Args:
        steps: Length in steps; or
        epochs: length in epochs.
        start_factor: The factor of the very first step.
    """

    steps: int | None = None
    epochs: float | None = None
    start_factor: float = 0.001

    def __attrs_post_init__(self) -> None:
        _one_of("LinearWarmup", steps=self.steps, epochs=self.epochs)

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        length = self.steps if self.steps is not None else (self.epochs or 0) * progress.steps_per_epoch
        if progress.step >= length:
            return 1.0
        return self.start_factor + (1 - self.start_factor) * progress.step / length


@attrs.frozen(kw_only=True)
class MultiStep(Schedule):
    """Multiplied by ``gamma`` at each milestone.

    Args:
        epochs: Milestones in epochs done; or
        steps: milestones in steps done.
        gamma: The factor of each.
    """

    epochs: Sequence[float] | None = None
    steps: Sequence[int] | None = None
    gamma: float = 0.1

    def __attrs_post_init__(self) -> None:
        _one_of("MultiStep", epochs=self.epochs, steps=self.steps)

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        milestones: Sequence[float] = self.steps or [epoch * progress.steps_per_epoch for epoch in self.epochs or ()]
        return float(self.gamma ** sum(progress.step >= milestone for milestone in milestones))


@attrs.frozen(kw_only=True)
class Cosine(Schedule):
    """Half a cosine from 1 to ``end_factor`` (Loshchilov & Hutter, SGDR, without restarts), constant before and after.

    Args:
        end_factor: The factor at the end.
        begin: Epoch at which it begins to fall.
        end: Epoch from which it has ``end_factor``; None is the end of the run.
    """

    end_factor: float = 0.0
    begin: float = 0.0
    end: float | None = None

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
