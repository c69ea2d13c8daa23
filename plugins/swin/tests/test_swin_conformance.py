"""SwinTransformer keeps the contract of backbones."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.testing import check_backbone
from detcore_swin.swin import SwinTransformer


@pytest.mark.parametrize("options", [{"depths": (2, 1, 1, 2)}, {"out_indices": (1, 2), "frozen_stages": 1}])
def test_it_is_a_backbone(options: dict[str, Any]) -> None:
    small = {"channels": 8, "head_channels": 4, "depths": (1, 2, 1, 1), "window": 3}
    check_backbone(SwinTransformer, **(small | options))
