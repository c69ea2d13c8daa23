"""HRFPN: gradients by finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore_hrnet.hrfpn import HRFPN


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_its_gradients_are_those_of_finite_differences(pooling: Any) -> None:
    torch.manual_seed(0)
    neck = HRFPN(in_channels=(2, 3), in_strides=(4, 8), out_channels=3, num_outs=3, pooling=pooling).double()
    given = [torch.randn(1, c, *size, dtype=torch.float64) for c, size in ((2, (5, 7)), (3, (3, 4)))]
    given = [each.requires_grad_() for each in given]
    assert torch.autograd.gradcheck(lambda *maps: tuple(neck(maps)), given, fast_mode=True)
