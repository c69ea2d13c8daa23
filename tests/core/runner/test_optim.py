"""Parameter groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from core.runner.tiny import TinyDetector
from detcore.errors import ConfigError
from detcore.runner.optim import build_optimizer


def sgd(groups: Any) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr=2.0, weight_decay=0.5)


def test_only_what_requires_a_gradient_is_trained() -> None:
    detector = TinyDetector()
    detector.conv.bias.requires_grad_(False)
    (group,) = build_optimizer(detector, sgd).param_groups
    assert [tuple(each.shape) for each in group["params"]] == [(4, 3, 3, 3), (4,), (4,)]


def test_factors_of_all_patterns_that_match_multiply() -> None:
    factors = {"conv.*": {"lr": 0.1}, "*.bias": {"lr": 0.5, "weight_decay": 0.0}}
    groups = build_optimizer(TinyDetector(), sgd, factors).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.2, 0.1, 2, 1])
    assert [group["weight_decay"] for group in groups] == [0.5, 0, 0.5, 0]
    assert [len(group["params"]) for group in groups] == [1] * 4


@pytest.mark.parametrize(
    ("factors", "line"),
    [
        ({"backbone.*": {"lr": 1}}, "optimizer: factors of 'backbone.*': match no trained parameter"),
        (
            {"conv.weights": {"lr": 1}},
            "optimizer: factors of 'conv.weights': match no trained parameter. Did you mean \"conv.weight\"?",
        ),
        ({"conv.*": {"beta": 1}}, "optimizer: factor of 'beta': SGD has no such option"),
    ],
)
def test_factors_that_have_no_effect_are_errors(factors: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_optimizer(TinyDetector(), sgd, factors)
    assert str(caught.value) == line


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        build_optimizer(TinyDetector().requires_grad_(False), sgd)
    assert str(caught.value) == "optimizer: the detector has no parameter that requires a gradient"
