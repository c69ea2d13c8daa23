"""The local parts keep their contracts."""

from __future__ import annotations

import pytest
import torch
from detcore.errors import ConfigError
from detcore.testing import check_neck

import parts


def test_the_neck_is_one() -> None:
    check_neck(parts.{{ cookiecutter.__class }}Neck, out_channels=16)


def test_a_gate_weighs_channels_by_hand() -> None:
    """Means of 2 and 0; the hidden layer adds them, the last gives weights of sigmoid(2) and sigmoid(-2)."""
    gate = parts.Gate(2, 2)
    gate.squeeze.weight.data[:], gate.squeeze.bias.data[:] = torch.ones(1, 2), torch.zeros(1)
    gate.excite.weight.data[:], gate.excite.bias.data[:] = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    x = torch.stack([torch.tensor([[1.0, 3.0]]), torch.tensor([[-1.0, 1.0]])])[None]
    weight = torch.tensor([2.0, -2.0]).sigmoid()[:, None, None]
    torch.testing.assert_close(gate(x), x * weight)


@pytest.mark.parametrize("options", [{"out_channels": 0}, {"reduction": 0}])
def test_numbers_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"out_channels, reduction: .* Give 1 or more"):
        parts.{{ cookiecutter.__class }}Neck(in_channels=(8,), strides=(4,), **options)
