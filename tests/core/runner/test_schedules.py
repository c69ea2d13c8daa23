"""Schedules, by hand."""

from __future__ import annotations

import pytest
from detcore.errors import ConfigError
from detcore.interfaces import Progress
from detcore.schedules import Cosine, LinearWarmup, MultiStep, learning_rate_factor
from hypothesis import given
from hypothesis import strategies as st


def at(step: int) -> Progress:
    return Progress(step, steps=100, steps_per_epoch=10)


@pytest.mark.parametrize(
    "schedule", [LinearWarmup(steps=5, start_factor=0.5), LinearWarmup(epochs=0.5, start_factor=0.5)]
)
def test_warmup_is_a_line(schedule: LinearWarmup) -> None:
    assert [round(schedule(at(step)), 9) for step in range(7)] == [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1]


def test_warmup_of_no_length_is_none() -> None:
    assert LinearWarmup(steps=0)(at(0)) == 1


@pytest.mark.parametrize("schedule", [MultiStep(epochs=[8, 9.5]), MultiStep(steps=[80, 95])])
def test_steps_fall_at_milestones(schedule: MultiStep) -> None:
    factors = [schedule(at(step)) for step in (0, 79, 80, 94, 95, 99)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_from_one_to_the_end_factor() -> None:
    assert [Cosine(end_factor=0.2)(at(step)) for step in (0, 50, 100, 120)] == pytest.approx([1, 0.6, 0.2, 0.2])
    part = Cosine(begin=2, end=6)
    assert [part(at(step)) for step in (0, 20, 30, 40, 60, 99)] == pytest.approx([1, 1, 0.5 + 0.5**1.5, 0.5, 0, 0])


def test_schedules_multiply() -> None:
    schedules = [LinearWarmup(steps=4, start_factor=0), MultiStep(steps=[2], gamma=0.5)]
    assert [learning_rate_factor(schedules, at(step)) for step in range(5)] == [0, 0.25, 0.25, 0.375, 0.5]
    assert learning_rate_factor([], at(3)) == 1


@given(st.integers(0, 100), st.floats(0, 9), st.floats(0, 10), st.floats(0, 1))
def test_cosine_stays_between_its_ends(step: int, begin: float, end: float, factor: float) -> None:
    assert factor - 1e-9 <= Cosine(begin=begin, end=end, end_factor=factor)(at(step)) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("schedule", "given", "line"),
    [
        (LinearWarmup, {}, "schedule LinearWarmup: takes one of steps and epochs, found neither"),
        (
            LinearWarmup,
            {"steps": 1, "epochs": 1},
            "schedule LinearWarmup: takes one of steps and epochs, found steps and epochs",
        ),
        (MultiStep, {}, "schedule MultiStep: takes one of epochs and steps, found neither"),
    ],
)
def test_a_length_is_given_once(schedule: type, given: dict[str, int], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schedule(**given)
    assert str(caught.value) == line
