"""The update of the weights, by any optimizer of torch."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from core.runner.tiny import TinyDetector
from detcore.errors import TrainingError
from detcore.runner.optim import update
from detcore.runner.parameters import ParamRule, build_optimizer
from torch.optim import Optimizer

SAID = {
    "LBFGS": "needs a closure",
    "SparseAdam": "wants sparse gradients",
    "Muon": "wants matrices",
}
"""Of these the errors are tested: what they want, a detector does not have."""
OPTIMIZERS = sorted(
    name
    for name, each in vars(torch.optim).items()
    if inspect.isclass(each) and issubclass(each, Optimizer) and each is not Optimizer and name not in SAID
)
SCALER = torch.amp.GradScaler("cpu", enabled=False)


def made(name: str, **options: Any) -> tuple[TinyDetector, Optimizer]:
    """A detector with gradients, and an optimizer of it that has begun."""
    detector = TinyDetector()
    rule = ParamRule(kind=["norm", "bias"], lr=0.5)
    optimizer = build_optimizer(
        detector, lambda groups: getattr(torch.optim, name)(groups, lr=0.1, **options), {"a.toml: params.one": rule}
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    for parameter in detector.parameters():
        parameter.grad = torch.ones_like(parameter)
    return detector, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_of_torch_makes_a_step_in_groups(name: str) -> None:
    detector, optimizer = made(name)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    update(optimizer, SCALER, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.025]
    assert all(not torch.equal(before[key], value) for key, value in detector.named_parameters())


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_fused_and_foreach_make_the_same_step(name: str, options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    plain, optimizer = made(name)
    update(optimizer, SCALER, 1.0)
    torch.manual_seed(0)
    other, optimizer = made(name, **options)
    update(optimizer, SCALER, 1.0)
    for ours, theirs in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_step_is_made_at_a_factor_of_the_initial_rates() -> None:
    detector, optimizer = made("SGD")
    before = detector.conv.weight.detach().clone(), detector.conv.bias.detach().clone()
    update(optimizer, SCALER, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.025]
    torch.testing.assert_close(before[0] - detector.conv.weight, torch.full((4, 3, 3, 3), 0.05))
    torch.testing.assert_close(before[1] - detector.conv.bias, torch.full((4,), 0.025))


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        (
            "SparseAdam",
            {},
            "optimizer SparseAdam: RuntimeError: SparseAdam does not support dense gradients, please consider Adam instead",
        ),
        ("Adam", {"capturable": True}, "optimizer Adam: AssertionError: If capturable=True, params"),
    ],
)
def test_a_step_that_cannot_be_made_is_one_line(name: str, options: Any, line: str) -> None:
    _, optimizer = made(name, **options)
    with pytest.raises(TrainingError) as caught:
        update(optimizer, SCALER, 1.0)
    assert str(caught.value).startswith(line)


def test_memory_that_runs_out_in_the_update_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _, optimizer = made("Adam")

    def step(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(optimizer, "step", step)
    with pytest.raises(TrainingError, match="optimizer Adam: the memory of cpu ran out"):
        update(optimizer, SCALER, 1.0)
