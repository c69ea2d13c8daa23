"""FPN keeps the contract of necks."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.layers import BN
from detcore.testing import check_neck
from detcore_fpn.fpn import FPN
from torch import nn


@pytest.mark.parametrize(
    "options",
    [
        {"compiled": True},
        {"num_outs": 5, "extra": "max_pool"},
        {"num_outs": 6, "extra": "on_input", "relu_before_extra": True},
        {"num_outs": 5, "extra": "on_lateral", "start_level": 1, "norm": BN},
        {"num_outs": 6, "extra": "on_output", "start_level": 1, "act": nn.ReLU},
    ],
)
def test_it_is_a_neck(options: dict[str, Any]) -> None:
    check_neck(FPN, out_channels=8, **options)
