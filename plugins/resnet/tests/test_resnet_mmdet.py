"""ResNet and ResNeXt by MMDetection's names, key by key."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part
from detcore_resnet.mmdet import TRANSLATIONS


def group_norm(table: Foreign) -> Part:
    return table.into("GN", **table.keep(num_groups="num_groups"))


def batch_norm(table: Foreign) -> Part:
    return table.into("BN", frozen=True if table.get("requires_grad", True) is False else None)


def translated(**values: Any) -> tuple[Part, list[str]]:
    log = Log({**TRANSLATIONS, "GN": group_norm, "BN": batch_norm})
    table = Foreign({"type": "ResNet", **values}, "model.backbone", log, "backbone")
    part = table.translated()
    return part, [str(each) for each in (*log.lost, *table.unread())]


@pytest.mark.parametrize(
    ("values", "ours"),
    [
        ({"depth": 50, "with_cp": True}, {"depth": 50}),
        ({"depth": 50, "norm_cfg": {"type": "BN", "requires_grad": True}}, {"depth": 50}),
        ({"depth": 50, "norm_cfg": {"type": "BN", "requires_grad": False}}, {"depth": 50, "norm": {"type": "BN", "frozen": True}}),
        (
            {"depth": 50, "num_stages": 3, "strides": (1, 2, 2), "out_indices": (2,)},
            {"depth": 50, "strides": [1, 2, 2, 1], "out_indices": (2,)},
        ),
        ({"depth": 50, "num_stages": 3}, {"depth": 50, "out_indices": [0, 1, 2]}),
        ({"depth": 18, "base_channels": 32}, {"depth": 18, "width": 32}),
        (
            {"depth": 50, "dcn": {"type": "DCN", "deform_groups": 1, "fallback_on_stride": False}, "stage_with_dcn": (False, True, True, True)},
            {"depth": 50, "conv3x3": {"type": "DCN", "deform_groups": 1}},
        ),
        (
            {"depth": 50, "dcn": {"type": "DCNv2", "deformable_groups": 2}, "stage_with_dcn": (False, False, True, True)},
            {"depth": 50, "conv3x3": {"type": "DCNv2", "deform_groups": 2}, "conv3x3_stages": [2, 3]},
        ),
        ({"type": "ResNeXt", "depth": 101, "groups": 64}, {"depth": 101, "groups": 64, "base_width": 4}),
        ({"depth": 50, "conv_cfg": {"type": "ConvWS"}}, {"depth": 50, "conv": {"type": "ConvWS"}}),
    ],
)  # fmt: skip
def test_keys_that_have_a_counterpart(values: dict[str, Any], ours: dict[str, Any]) -> None:
    part, lost = translated(**values)
    assert lost == []
    assert part.plain == {"type": "ResNet", **{key: list(v) if isinstance(v, tuple) else v for key, v in ours.items()}}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"deep_stem": True}, "model.backbone.deep_stem = True: only False has a counterpart"),
        ({"plugins": [1]}, "model.backbone.plugins = [1]: only None has a counterpart"),
        ({"scales": 4}, "model.backbone.scales = 4: has no counterpart"),
        (
            {"conv_cfg": {"type": "ConvWS", "eps": 1.0}},
            "model.backbone.conv_cfg.eps = 1.0: only 1e-05 has a counterpart",
        ),
    ],
)
def test_keys_that_have_none_are_listed(values: dict[str, Any], told: str) -> None:
    assert translated(**values)[1] == [told]


def test_norms_are_called_by_their_type() -> None:
    part, _ = translated(norm_cfg={"type": "GN", "num_groups": 32})
    assert part.foreign_name("layer1.0.bn2.weight") == "backbone.layer1.0.gn2.weight"
    assert part.foreign_name("bn1.bias") == "backbone.gn1.bias"
    assert part.foreign_name("layer1.0.downsample.1.weight") == "backbone.layer1.0.downsample.1.weight"
    assert translated()[0].foreign_name("bn1.bias") == "backbone.bn1.bias"
