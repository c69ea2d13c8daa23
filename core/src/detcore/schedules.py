"""Factors of the learning rate as pure functions of progress; the schedules of a run are multiplied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import attrs
from pydantic import Field, NonNegativeFloat, PositiveFloat

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
class Spanned(Schedule):
    """A schedule of a part of the run; before and after, the factor stays what it is at the part's ends.

    Args:
        begin: Where the part begins.
        end: Where it ends; None is the end of the run.
        unit: Of ``begin`` and ``end``. The factor changes with every step either way.
    """

    begin: NonNegativeFloat = 0.0
    end: PositiveFloat | None = None
    unit: Literal["epochs", "steps"] = "epochs"

    def __attrs_post_init__(self) -> None:
        if self.end is not None and self.end <= self.begin:
            found = f"ends at {self.end:g}, before it has begun at {self.begin:g}"
            raise ConfigError(type(self).__name__, found)

    def span(self, progress: Progress) -> tuple[float, float]:
        """The first step of the part and the one after its last, at least one apart."""
        length = progress.steps_per_epoch if self.unit == "epochs" else 1
        first = self.begin * length
        return first, max(progress.steps if self.end is None else self.end * length, first + 1)

    def done(self, progress: Progress) -> float:
        """How much of the part is done, 0 to 1."""
        first, last = self.span(progress)
        return min(max((progress.step - first) / (last - first), 0.0), 1.0)


@attrs.frozen(kw_only=True)
class Constant(Spanned):
    """``factor`` within its part of the run, 1 outside.

    Args:
        factor: The factor.
        begin: Of the part, as in :class:`Spanned`; so are ``end`` and ``unit``.
    """

    factor: NonNegativeFloat

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        first, last = self.span(progress)
        return self.factor if first <= progress.step < last else 1.0


@attrs.frozen(kw_only=True)
class Cosine(Spanned):
    """Half a cosine from 1 to ``end_factor`` (Loshchilov & Hutter, SGDR, without restarts).

    Args:
        end_factor: The factor at the end.
        begin: Of the part, as in :class:`Spanned`; so are ``end`` and ``unit``.
    """

    end_factor: NonNegativeFloat = 0.0

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        return _cosine(1.0, self.end_factor, self.done(progress))


@attrs.frozen(kw_only=True)
class Poly(Spanned):
    """From 1 to ``end_factor`` as a power of what is left; a power of 1 is a straight line.

    Args:
        power: The power.
        end_factor: The factor at the end.
        begin: Of the part, as in :class:`Spanned`; so are ``end`` and ``unit``.
    """

    power: PositiveFloat = 1.0
    end_factor: NonNegativeFloat = 0.0

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        return float(self.end_factor + (1 - self.end_factor) * (1 - self.done(progress)) ** self.power)


@attrs.frozen(kw_only=True)
class OneCycle(Spanned):
    """Up to 1 and down to almost nothing, once (Smith & Topin, Super-Convergence): the optimizer's rate is the maximum.

    Step by step the rates of ``torch.optim.lr_scheduler.OneCycleLR``. Momentum stays as it is (its
    ``cycle_momentum=False``): a schedule is a factor of the learning rate.

    Args:
        pct_start: The fraction of the part that goes up.
        div_factor: The first factor is 1 / ``div_factor``,
        final_div_factor: the last the first one / ``final_div_factor``.
        anneal: The way between.
        three_phase: Come down to the first factor as fast as it went up, and only then to the last.
        begin: Of the part, as in :class:`Spanned`; so are ``end`` and ``unit``.
    """

    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    div_factor: PositiveFloat = 25.0
    final_div_factor: PositiveFloat = 1e4
    anneal: Literal["cos", "linear"] = "cos"
    three_phase: bool = False

    def __call__(self, progress: Progress) -> float:
        """The factor for the step that is about to be made."""
        first, end = self.span(progress)
        last, peak = end - first - 1, self.pct_start * (end - first) - 1
        low = 1 / self.div_factor
        middle = [(peak, 1.0), (2 * peak, low)] if self.three_phase else [(peak, 1.0)]
        knots = [(0.0, low), *middle, (last, low / self.final_div_factor)]
        at = min(max(progress.step - first, 0.0), last)
        pairs = [*pairwise(knots)]
        (left, start), (right, stop) = next((pair for pair in pairs if at < pair[1][0]), pairs[-1])
        done = (at - left) / (right - left)
        return _cosine(start, stop, done) if self.anneal == "cos" else start + (stop - start) * done


def learning_rate_factor(schedules: Sequence[Schedule], progress: Progress) -> float:
    """The product of all schedules."""
    return math.prod(schedule(progress) for schedule in schedules)


def _cosine(start: float, stop: float, done: float) -> float:
    return stop + (start - stop) * (1 + math.cos(math.pi * done)) / 2


def _one_of(schedule: str, **lengths: object) -> None:
    given = [name for name, value in lengths.items() if value is not None]
    if len(given) != 1:
        found = f"takes one of {' and '.join(lengths)}, found {' and '.join(given) or 'neither'}"
        raise ConfigError(schedule, found)
