"""The neck keeps its contract, and adds as the paper has it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Flow
from detcore.layers import GN
from detcore.testing import check_neck

from {{ cookiecutter.__package }}.neck import {{ cookiecutter.__class }}


@pytest.mark.parametrize("options", [{}, {"norm": partial(GN, num_groups=4)}])
def test_it_is_a_neck(options: dict[str, Any]) -> None:
    check_neck({{ cookiecutter.__class }}, out_channels=16, **options)


def test_one_map_is_enough() -> None:
    check_neck({{ cookiecutter.__class }}, flow=Flow(channels=(8,), strides=(16,)))


def test_sums_are_weighted_by_hand() -> None:
    """Maps of 1 and of 5 with weights of 3 and 1: (3 * 1 + 1 * 5) / (4 + 0.0001); a negative weight counts as 0."""
    neck = {{ cookiecutter.__class }}(in_channels=(1, 1), strides=(4, 8), out_channels=1)
    for layer in neck.lateral:
        torch.nn.init.ones_(layer.get_parameter("conv.weight"))
        torch.nn.init.zeros_(layer.get_parameter("conv.bias"))
    neck.weights[0].data[:] = torch.tensor([3.0, 1.0])
    maps = [torch.ones(1, 1, 3, 5), 5 * torch.ones(1, 1, 2, 3)]
    shallow, deep = neck(maps)
    torch.testing.assert_close(shallow, torch.full((1, 1, 3, 5), 8 / 4.0001))
    torch.testing.assert_close(deep, maps[1])
    neck.weights[0].data[:] = torch.tensor([3.0, -1.0])
    torch.testing.assert_close(neck(maps)[0], torch.full((1, 1, 3, 5), 3 / 3.0001))


def test_no_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"out_channels: 0. Give 1 or more"):
        {{ cookiecutter.__class }}(in_channels=(8,), strides=(4,), out_channels=0)
