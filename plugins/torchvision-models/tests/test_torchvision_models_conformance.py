"""torchvision's models keep the contract of backbones."""

from __future__ import annotations

import pytest
from detcore.testing import check_backbone
from detcore_torchvision_models import backbones


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5"])
def test_a_model_is_a_backbone(name: str) -> None:
    check_backbone(getattr(backbones, name), pickled="shufflenet" not in name)  # its graph is too long for pickle


def test_a_model_of_which_only_shallow_maps_are_wanted_is_a_backbone() -> None:
    check_backbone(backbones.mobilenet_v3_small, out_indices=(1, 2))
