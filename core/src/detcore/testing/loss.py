"""Losses: how wrong numbers are."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from detcore.data import seeded
from detcore.interfaces import Loss
from detcore.structures import BACKGROUND
from detcore.testing.compare import ConformanceError, during, tensors, unchanged
from detcore.testing.inputs import random_boxes
from detcore.testing.modules import ABSENT, gpu

Reads = Literal["classes", "probabilities", "numbers", "boxes"]


@attrs.frozen(eq=False)
class _Example:
    input: Tensor
    target: Tensor
    perfect: tuple[Tensor, Tensor]  # an input, and the target that it meets
    hard: Mapping[str, Tensor]  # inputs at which naive formulas overflow or divide by zero


def check_loss(loss: Loss, *, reads: Reads, zero: bool = True, exact: bool = True) -> None:
    """Finite scalars and gradients, of extreme inputs and none; what weights and ``avg_factor`` mean; perfection.

    The gradient is held against differences of the loss itself, in float64.

    Args:
        loss: With its mean reduction.
        reads: ``classes``: logits (N, C) (C + 1 of a softmax) and int64 classes (N,), background -1 or C;
            ``probabilities``: logits and targets from 0 to 1 (N, C); ``numbers``: any (N, 4) and (N, 4);
            ``boxes``: (N, 4) and (N, 4) in pixels.
        zero: Whether a perfect prediction costs nothing.
        exact: Whether its gradient is its derivative; not where a part is held constant (CIoU's trade-off).

    Raises:
        ConformanceError: A contract is broken.
    """
    name = type(loss).__name__
    if loss.decoded != (reads == "boxes"):
        found = f"reads {reads}, but decoded is {loss.decoded}"
        raise ConformanceError(name, found, "`decoded = True` asks for boxes in pixels rather than vectors.")
    with seeded(0):
        example = _EXAMPLES[reads](loss.softmax)
    _check_reduction(loss, example)
    for what, values in example.hard.items():
        _value(loss, f"of {what}", values, example.target, avg_factor=4.0)
    _value(loss, "of float16 numbers", example.input.half(), example.target, avg_factor=4.0)
    for options in ({}, {"avg_factor": 1.0}):
        nothing, _ = _value(loss, "of no rows", example.input[:0], example.target[:0], **options)
        _same(name, "no rows cost nothing", nothing, 0.0)
    (wrong, gradient), (perfect, _) = (
        _value(loss, what, values, example.perfect[1], avg_factor=4.0)
        for what, values in (("of a wrong prediction", example.input), ("of a perfect prediction", example.perfect[0]))
    )
    if perfect > wrong or (zero and abs(perfect) > 1e-4):
        found = f"a perfect prediction costs {perfect:.4g}, a wrong one {wrong:.4g}"
        raise ConformanceError(name, found, "The perfect one costs nothing." if zero else "The perfect one costs less.")
    if not gradient.any():
        raise ConformanceError(name, "a wrong prediction has no gradient", "Something must pull it to the target.")
    if exact:
        _check_derivative(loss, example)
    _check_copies(loss, example)


def _check_derivative(loss: Loss, example: _Example) -> None:
    """The gradient is what a small change of each number changes; a larger one, where the loss computes in float32."""
    leaf, target = example.input.double().requires_grad_(), example.target
    target = target.double() if target.is_floating_point() else target

    def cost(input: Tensor) -> Tensor:
        with seeded(1), during(type(loss).__name__, "of float64 numbers"):
            value: Tensor = copy.deepcopy(loss)(input, target, avg_factor=4.0)  # one that remembers begins anew
            return value

    (gradient,) = torch.autograd.grad(cost(leaf), leaf)
    units = torch.eye(leaf.numel(), dtype=torch.float64).view(-1, *leaf.shape)
    slopes, wrong = gradient, torch.ones_like(gradient, dtype=torch.bool)
    for step, tolerance in ((1e-6, 1e-4), (1e-2, 3e-2)):
        with torch.no_grad():
            ends = [(cost(leaf + step * unit) - cost(leaf - step * unit)).double() for unit in units]
        slopes = torch.where(wrong, torch.stack(ends).view_as(leaf) / (2 * step), slopes)
        wrong &= (slopes - gradient).abs() > tolerance * gradient.abs().max()
    if wrong.any():
        row = int(wrong.view(-1).int().argmax())
        found = f"the gradient of a number is {gradient.view(-1)[row]:.4g}, its derivative {slopes.view(-1)[row]:.4g}"
        fix = "Say exact=False if a part of it is held constant on purpose."
        raise ConformanceError(type(loss).__name__, found, fix)


def _check_copies(loss: Loss, example: _Example) -> None:
    """One that was pickled costs the same; so does one on a GPU, where there is one, and of bf16 numbers, about."""
    name = type(loss).__name__
    with during(name, "when it is pickled"):
        twin, third, there = (pickle.loads(pickle.dumps(loss)) for _ in range(3))
    wanted = _cost(loss, example)
    _same(name, "one that was pickled costs the same", _cost(twin, example), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        _value(third, "of bf16 numbers", example.input.bfloat16(), example.target, avg_factor=4.0)
    if (device := gpu()) is not None:
        with during(name, "on a GPU"):
            found = _cost(there.to(device), tensors(example, lambda each: each.to(device)))
        _same(name, "on a GPU it costs the same", found, wanted)


def _cost(loss: Loss, example: _Example) -> float:
    return _value(loss, "", example.input, example.target, avg_factor=4.0)[0]


def _check_reduction(loss: Loss, example: _Example) -> None:
    name, given, goal = type(loss).__name__, example.input, example.target
    rows = len(given)
    one, first_left_out = torch.ones(rows), (torch.arange(rows) > 0).float()

    def cost(what: str, input: Tensor = given, target: Tensor = goal, **options: Any) -> float:
        return _value(loss, what, input, target, **{"avg_factor": 4.0, **options})[0]

    whole, twice = cost("with an avg_factor"), (torch.cat([given, given]), torch.cat([goal, goal]))
    mean = cost("without avg_factor", avg_factor=None)
    facts = [
        ("twice the avg_factor halves it", cost("with an avg_factor", avg_factor=8.0), whole / 2),
        ("avg_factor may be a tensor", cost("with a tensor avg_factor", avg_factor=torch.tensor(4.0)), whole),
        ("the same rows twice double it", cost("of more rows", *twice), 2 * whole),
        ("without avg_factor it is a mean", cost("without avg_factor", *twice, avg_factor=None), mean),
        ("weights of 2 double it", cost("with weights", weight=2 * one), 2 * whole),
        ("weights of 0 leave nothing", cost("with weights of 0", weight=0 * one), 0.0),
        ("a row of weight 0 is left out", cost("with weights", weight=first_left_out), cost("", given[1:], goal[1:])),
    ]
    if not loss.softmax:
        full = first_left_out[:, None].expand_as(given)
        of_rows = cost("with weights", weight=first_left_out)
        facts.append(("weights may have the input's shape", cost("with weights of its shape", weight=full), of_rows))
    if not goal.is_floating_point():
        other = torch.where(goal == BACKGROUND, given.shape[1] - loss.softmax, goal)
        facts.append(("background is -1 or C", cost("with background C", target=other), whole))
    for fact, found, wanted in facts:
        _same(name, fact, found, wanted)


def _value(loss: Loss, what: str, input: Tensor, target: Tensor, **options: Any) -> tuple[float, Tensor]:
    """A loss and its gradient, both finite."""
    name, leaf = type(loss).__name__, input.clone().requires_grad_()
    with seeded(1), unchanged(name, "its target", target), during(name, what):
        value = loss(leaf, target, **options)
    if not isinstance(value, Tensor) or value.dim() != 0:
        found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ConformanceError(name, f"the loss {what} is {found}", "With its mean reduction it is a scalar.")
    if not value.isfinite():
        raise ConformanceError(name, f"the loss {what} is {value.item()}", ABSENT if not len(input) else "")
    gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None or not gradient.isfinite().all():
        found = "no gradient" if gradient is None else "a gradient that is not finite"
        raise ConformanceError(name, f"the loss {what} has {found}", "It is finite and tied to the input, always.")
    return value.item(), gradient


def _same(name: str, fact: str, found: float, wanted: float) -> None:
    if not math.isclose(found, wanted, rel_tol=1e-3, abs_tol=1e-5):
        fix = "weight multiplies the loss of each row; avg_factor divides the sum, else their number does."
        raise ConformanceError(name, f"{fact}, but it is {found:.4g}, not {wanted:.4g}", fix)


def _classes(softmax: bool) -> _Example:
    input, target = torch.randn(8, 4 + softmax), torch.tensor([0, 1, 2, 3, 0, 1, BACKGROUND, BACKGROUND])
    met = torch.where(target[:, None] % 5 == torch.arange(4 + softmax), 50.0, -50.0)
    return _Example(input, target, (met, target), {"large logits": 1e4 * input, "sure and wrong logits": -100 * met})


def _probabilities(softmax: bool) -> _Example:
    input, target = torch.randn(8, 4), torch.rand(8, 4).where(torch.arange(8)[:, None] > 1, 1.0)
    certain = target.round()
    met = 100 * certain - 50
    return _Example(input, target, (met, certain), {"large logits": 1e4 * input, "sure and wrong logits": -100 * met})


def _numbers(softmax: bool) -> _Example:
    input, target = torch.randn(8, 4), torch.randn(8, 4)
    return _Example(input, target, (target, target), {"large numbers": 1e4 * input})


def _boxes(softmax: bool) -> _Example:
    target = random_boxes(8, 600, 800)
    input = target + 4 * torch.randn(8, 4)
    hard = {
        "boxes without area": target[:, [0, 1, 0, 1]],
        "boxes that end before they begin": target[:, [2, 3, 0, 1]],
        "boxes far from their targets": target + 1e5,
    }
    return _Example(input, target, (target, target), hard)


_EXAMPLES: Mapping[str, Callable[[bool], _Example]] = {
    "classes": _classes,
    "probabilities": _probabilities,
    "numbers": _numbers,
    "boxes": _boxes,
}
