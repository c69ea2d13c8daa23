"""The loss keeps its contract, and is the formula of the paper."""

from __future__ import annotations

import math

import pytest
import torch
from detcore.errors import ConfigError
from detcore.testing import check_loss

from {{ cookiecutter.__package }}.loss import {{ cookiecutter.__class }}Loss


@pytest.mark.parametrize("options", [{}, {"width": 0.5, "curvature": 0.1, "loss_weight": 2.0}])
def test_it_is_a_loss_of_numbers(options: dict[str, float]) -> None:
    check_loss({{ cookiecutter.__class }}Loss(**options), reads="numbers")


@pytest.mark.parametrize(
    ("difference", "wanted"),
    [
        (0.0, 0.0),
        (2.0, 10 * math.log(2)),  # w * ln(1 + 2 / 2)
        (-8.0, 10 * math.log(5)),
        (10.0, 10 * math.log(6)),  # where both pieces meet
        (30.0, 20 + 10 * math.log(6)),  # |x| - (w - w * ln(1 + w / e))
    ],
)
def test_values_by_hand(difference: float, wanted: float) -> None:
    loss = {{ cookiecutter.__class }}Loss()
    found = loss(torch.tensor([[difference]]), torch.zeros(1, 1))
    assert float(found) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("options", [{"width": 0.0}, {"curvature": -1.0}])
def test_numbers_without_a_curve_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"width, curvature: .* Both are positive"):
        {{ cookiecutter.__class }}Loss(**options)
