"""timm's models keep the contract of backbones, whatever family they are of and whichever maps are asked for."""

from __future__ import annotations

import pytest
from detcore.testing import check_backbone
from detcore_timm import models


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "convnext_atto", "hrnet_w18_small", "pvt_v2_b0"])
def test_a_model_is_a_backbone(name: str) -> None:
    check_backbone(getattr(models, name))


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "hrnet_w18_small"])
def test_a_model_of_which_only_shallow_maps_are_wanted_trains_what_they_need_and_reads_any_size(name: str) -> None:
    check_backbone(getattr(models, name), out_indices=(1, 2))


def test_a_frozen_model_is_a_backbone() -> None:
    check_backbone(models.mobilenetv3_small_100, frozen=True)
