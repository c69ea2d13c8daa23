"""ShuffleNetV2 of MMClassification: its keys, and its tensors by name."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_shufflenet.mmdet import TRANSLATIONS
from detcore_shufflenet.shufflenet import ShuffleNetV2


def read(**keys: Any) -> tuple[Part, Log]:
    log = Log(TRANSLATIONS)
    part = Foreign({"type": "mmcls.ShuffleNetV2", **keys}, "model.backbone", log, "backbone").translated()
    return part, log


def test_keys() -> None:
    part, log = read(widen_factor=0.5, out_indices=[0, 1, 3], norm_eval=True)
    assert (log.lost, log.notes) == ([], [])
    assert part.plain == {
        "type": "ShuffleNetV2",
        "width": 0.5,
        "out_indices": [1, 2, 3],
        "norm_eval": True,
        "weights": "torchvision://shufflenet_v2_x0_5",
    }


def test_what_is_otherwise_or_lost() -> None:
    part, log = read(out_indices=[0, 1, 2], init_cfg={"type": "Pretrained"}, frozen_stages=2)
    assert part.plain["out_indices"] == [1, 2, 3]
    assert [each.path for each in log.notes] == ["model.backbone.out_indices", "model.backbone.init_cfg"]
    assert [each.path for each in log.lost] == ["model.backbone.frozen_stages"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("conv1.0.weight", "conv1.conv.weight"),
        ("conv1.1.running_mean", "conv1.bn.running_mean"),
        ("stage2.0.branch1.0.weight", "layers.0.0.branch1.0.conv.weight"),
        ("stage2.0.branch1.3.bias", "layers.0.0.branch1.1.bn.bias"),
        ("stage3.7.branch2.0.weight", "layers.1.7.branch2.0.conv.weight"),
        ("stage3.7.branch2.3.weight", "layers.1.7.branch2.1.conv.weight"),
        ("stage4.1.branch2.6.weight", "layers.2.1.branch2.2.bn.weight"),
        ("conv5.0.weight", "layers.3.conv.weight"),
        ("conv5.1.weight", "layers.3.bn.weight"),
    ],
)
def test_names_of_tensors(ours: str, theirs: str) -> None:
    assert read()[0].foreign_name(ours) == f"backbone.{theirs}"
    assert ours in ShuffleNetV2().state_dict()


def test_each_tensor_has_a_name_of_its_own() -> None:
    names = [read()[0].foreign_name(name) for name in ShuffleNetV2().state_dict()]
    assert len({*names}) == len(names)
    assert all(".conv." in name or ".bn." in name for name in names)
