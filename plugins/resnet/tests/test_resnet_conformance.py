"""ResNet keeps the contract of backbones."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from detcore.layers import GN
from detcore.testing import check_backbone
from detcore_resnet.resnet import ResNet


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 18, "compiled": True},
        {"depth": 50, "style": "caffe", "out_indices": (1, 2)},
        {"depth": 50, "frozen_stages": 1, "norm_eval": True},
        {"depth": 18, "norm": partial(GN, num_groups=2), "strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)},
    ],
)
def test_it_is_a_backbone(options: dict[str, Any]) -> None:
    check_backbone(ResNet, width=8, **options)
