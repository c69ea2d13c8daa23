"""Schedules, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Progress, Schedule
from detcore.schedules import Constant, Cosine, LinearWarmup, MultiStep, OneCycle, Poly, learning_rate_factor
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler


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


@given(st.integers(0, 100), st.floats(0, 9), st.floats(0.01, 10), st.floats(0, 1))
def test_cosine_stays_between_its_ends(step: int, begin: float, length: float, factor: float) -> None:
    assert factor - 1e-9 <= Cosine(begin=begin, end=begin + length, end_factor=factor)(at(step)) <= 1 + 1e-9


def torch_factors(scheduler: type[lr_scheduler.LRScheduler], steps: int = 100, **options: Any) -> list[float]:
    """What a scheduler of torch makes of a learning rate of 1, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, factors = scheduler(optimizer, **options), []
    for _ in range(steps):
        factors.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if len(factors) < steps:
            schedule.step()
    return factors


ONE_CYCLE = {"max_lr": 1.0, "total_steps": 100, "cycle_momentum": False}
AS_TORCH = {
    "linear": (
        LinearWarmup(steps=7, start_factor=0.2),
        lr_scheduler.LinearLR,
        {"start_factor": 0.2, "total_iters": 7},
    ),
    "multi step": (MultiStep(epochs=[3, 8]), lr_scheduler.MultiStepLR, {"milestones": [30, 80]}),
    "constant": (Constant(factor=0.3, end=4), lr_scheduler.ConstantLR, {"factor": 0.3, "total_iters": 40}),
    "cosine": (Cosine(end_factor=0.1), lr_scheduler.CosineAnnealingLR, {"T_max": 100, "eta_min": 0.1}),
    "poly": (Poly(power=0.9, end=63, unit="steps"), lr_scheduler.PolynomialLR, {"total_iters": 63, "power": 0.9}),
    "one cycle": (OneCycle(), lr_scheduler.OneCycleLR, ONE_CYCLE),
    "one cycle, linear": (
        OneCycle(pct_start=0.41, anneal="linear", div_factor=10.0, final_div_factor=100.0),
        lr_scheduler.OneCycleLR,
        {**ONE_CYCLE, "pct_start": 0.41, "anneal_strategy": "linear", "div_factor": 10, "final_div_factor": 100},
    ),
    "one cycle, three phases": (
        OneCycle(three_phase=True),
        lr_scheduler.OneCycleLR,
        {**ONE_CYCLE, "three_phase": True},
    ),
}


@pytest.mark.parametrize(("schedule", "scheduler", "options"), AS_TORCH.values(), ids=AS_TORCH.keys())
def test_step_by_step_as_in_torch(schedule: Schedule, scheduler: Any, options: Any) -> None:
    ours = [schedule(at(step)) for step in range(100)]
    assert ours == pytest.approx(torch_factors(scheduler, **options), rel=1e-9, abs=1e-12)


@given(st.integers(2, 30), st.floats(0.01, 0.99), st.booleans())
def test_one_cycle_of_any_length_as_in_torch(steps: int, pct_start: float, three_phase: bool) -> None:
    schedule = OneCycle(pct_start=pct_start, three_phase=three_phase)
    options = {**ONE_CYCLE, "total_steps": steps, "pct_start": pct_start, "three_phase": three_phase}
    try:
        theirs = torch_factors(lr_scheduler.OneCycleLR, steps, **options)
    except ZeroDivisionError:  # theirs, where a phase ends as it begins
        return
    ours = [schedule(Progress(step, steps, steps_per_epoch=1)) for step in range(steps)]
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_one_cycle_with_its_peak_at_the_first_step_falls_from_there() -> None:
    assert [OneCycle(pct_start=0.01)(at(step)) for step in (0, 99)] == pytest.approx([1, 4e-6])


@pytest.mark.parametrize("schedule", [Cosine, Poly, OneCycle])
@pytest.mark.parametrize(("unit", "length"), [("epochs", 1), ("steps", 10)])
def test_before_and_after_its_part_a_schedule_stands_still(schedule: Any, unit: str, length: int) -> None:
    part = schedule(begin=2 * length, end=6 * length, unit=unit)
    whole = schedule()
    within = [whole(Progress(step, steps=40, steps_per_epoch=10)) for step in range(40)]
    after = whole(Progress(40, steps=40, steps_per_epoch=10))
    assert [part(at(step)) for step in range(100)] == pytest.approx([within[0]] * 20 + within + [after] * 40)


def test_a_constant_is_one_outside_its_part() -> None:
    factors = [Constant(factor=0.5, begin=20, end=21, unit="steps")(at(step)) for step in (0, 19, 20, 21)]
    assert factors == [1, 1, 0.5, 1]
    assert Constant(factor=2.0)(at(99)) == 2


def test_warm_up_then_cosine_then_constant_are_three_of_one_product() -> None:
    chain = [LinearWarmup(epochs=1, start_factor=0), Cosine(begin=1, end=9, end_factor=0.05)]
    factors = [learning_rate_factor(chain, at(step)) for step in (0, 5, 10, 50, 90, 99)]
    assert factors == pytest.approx([0, 0.5, 1, 0.525, 0.05, 0.05])


@pytest.mark.parametrize("schedule", [Cosine, Poly, OneCycle])
def test_a_part_that_ends_before_it_begins_is_an_error(schedule: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        schedule(begin=5, end=2.5)
    assert str(caught.value) == f"{schedule.__name__}: ends at 2.5, before it has begun at 5"


@pytest.mark.parametrize(
    ("schedule", "given", "line"),
    [
        (LinearWarmup, {}, "LinearWarmup: takes one of steps and epochs, found neither"),
        (
            LinearWarmup,
            {"steps": 1, "epochs": 1},
            "LinearWarmup: takes one of steps and epochs, found steps and epochs",
        ),
        (MultiStep, {}, "MultiStep: takes one of epochs and steps, found neither"),
    ],
)
def test_a_length_is_given_once(schedule: type, given: dict[str, int], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schedule(**given)
    assert str(caught.value) == line
