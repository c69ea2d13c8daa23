"""The backbone keeps its contract, and its blocks do what they say."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.layers import GN
from detcore.testing import check_backbone

from {{ cookiecutter.__package }}.backbone import {{ cookiecutter.__class }}


@pytest.mark.parametrize("options", [{}, {"blocks": 0}, {"blocks": 2, "norm": partial(GN, num_groups=4)}])
def test_it_is_a_backbone(options: dict[str, Any]) -> None:
    check_backbone({{ cookiecutter.__class }}, width=8, **options)


def test_channels_double_and_sizes_halve() -> None:
    net = {{ cookiecutter.__class }}(width=6)
    assert net.out_channels == (6, 12, 24, 48)
    shapes = [tuple(each.shape) for each in net(torch.zeros(2, 3, 64, 96))]
    assert shapes == [(2, 6, 16, 24), (2, 12, 8, 12), (2, 24, 4, 6), (2, 48, 2, 3)]


def test_a_block_adds_to_what_it_reads() -> None:
    """With weights of 0 in its second convolution nothing is added."""
    net = {{ cookiecutter.__class }}(width=4).eval()
    block = net.stages[0].get_submodule("1")
    torch.nn.init.zeros_(block.get_parameter("conv2.conv.weight"))
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize("options", [{"width": 0}, {"blocks": -1}])
def test_what_makes_no_network_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Give at least 1 and at least 0"):
        {{ cookiecutter.__class }}(**options)
