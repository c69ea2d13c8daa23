"""The hourglass keeps the contract of backbones."""

from __future__ import annotations

import pytest
from detcore.testing import check_backbone
from detcore_hourglass.hourglass import Hourglass


@pytest.mark.parametrize("stacks", [1, 2])
def test_it_is_a_backbone(stacks: int) -> None:
    small = {"downsample_times": 2, "stage_channels": (8, 12, 16), "stage_blocks": (1, 2, 1), "stem_channels": 4}
    check_backbone(Hourglass, num_stacks=stacks, **small)
