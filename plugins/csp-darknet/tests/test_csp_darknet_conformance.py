"""CSPDarknet keeps the contract of backbones."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.testing import check_backbone
from detcore_csp_darknet.csp_darknet import CSPDarknet


@pytest.mark.parametrize(
    "options", [{}, {"arch": "P6", "out_indices": (1, 5)}, {"frozen_stages": 2, "norm_eval": True, "depthwise": True}]
)
def test_it_is_a_backbone(options: dict[str, Any]) -> None:
    check_backbone(CSPDarknet, deepen_factor=0.33, widen_factor=0.125, **options)
