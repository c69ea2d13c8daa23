"""HRNet and HRFPN keep the contracts of backbones and necks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from detcore.layers import BN, GN
from detcore.testing import check_backbone, check_neck
from detcore_hrnet.hrfpn import HRFPN
from detcore_hrnet.hrnet import HRNet
from torch import nn


@pytest.mark.parametrize("options", [{}, {"norm": partial(GN, num_groups=2), "norm_eval": False}])
def test_hrnet_is_a_backbone(options: dict[str, Any]) -> None:
    check_backbone(HRNet, width=4, modules=(1, 2, 1), blocks=1, **options)


@pytest.mark.parametrize("options", [{}, {"num_outs": 1}, {"pooling": "max", "norm": BN, "act": nn.ReLU}])
def test_hrfpn_is_a_neck(options: dict[str, Any]) -> None:
    check_neck(HRFPN, out_channels=8, **options)
