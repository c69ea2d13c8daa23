"""CSPDarknet of MMDetection: what comes out here, which name a tensor has there, and what is listed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from detcore_csp_darknet.csp_darknet import CSPDarknet
from detcore_mmdet import Translated, from_mmdet, to_mmdet, translate


def translated(**options: Any) -> Translated:
    return translate({"type": "YOLOX", "backbone": {"type": "CSPDarknet", **options}})


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        ({}, {}),
        ({"norm_cfg": {"type": "BN", "momentum": 0.03, "eps": 0.001}, "act_cfg": {"type": "Swish"}}, {}),
        ({"norm_cfg": {"type": "BN"}}, {"norm": {"type": "BN"}}),
        ({"act_cfg": {"type": "ReLU"}}, {"act": {"type": "ReLU"}}),
        ({"use_depthwise": True, "spp_kernal_sizes": [3]}, {"depthwise": True, "spp_kernel_sizes": [3]}),
        ({"use_depthwise": False, "arch_ovewrite": None, "conv_cfg": None}, {}),
        *(
            ({name: value}, {name: value})
            for name, value in [("arch", "P6"), ("deepen_factor", 0.33), ("widen_factor", 0.5), ("frozen_stages", 0)]
        ),
        ({"norm_eval": True, "out_indices": [1, 2]}, {"norm_eval": True, "out_indices": [1, 2]}),
    ],
)
def test_options(options: dict[str, Any], ours: dict[str, Any]) -> None:
    found = translated(**options)
    assert found.lost == []
    assert found.model["backbone"] == {"type": "CSPDarknet", **ours}


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({"arch_ovewrite": [[64, 128, 3, True, False]]}, "arch_ovewrite = .*: only None has a counterpart"),
        ({"conv_cfg": {"type": "DCN"}}, "conv_cfg = .*: only None has a counterpart"),
        ({"norm_cfg": None}, "norm_cfg = None: there is always one here"),
        ({"act_cfg": None}, "act_cfg = None: there is always one here"),
        ({"spp_kernel_sizes": [5]}, "backbone.spp_kernel_sizes = .*: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(options: dict[str, Any], listed: str) -> None:
    (lost,) = translated(**options).lost
    assert re.search(listed, str(lost))


def test_names_of_tensors_there_and_back() -> None:
    """Depthwise convolutions have two steps there; a stage whose map nobody asks for is there nevertheless."""
    part = translated(use_depthwise=True, widen_factor=0.125, deepen_factor=0.33, out_indices=[2, 3]).part
    module = CSPDarknet(depthwise=True, widen_factor=0.125, deepen_factor=0.33, out_indices=(2, 3))
    ours = {f"backbone.{name}": value for name, value in module.state_dict().items()}
    theirs = to_mmdet(ours, part)
    assert theirs.keys() >= {
        "backbone.stem.conv.conv.weight",
        "backbone.stage1.0.depthwise_conv.conv.weight",
        "backbone.stage1.0.pointwise_conv.bn.running_var",
        "backbone.stage2.1.main_conv.bn.weight",
        "backbone.stage2.1.blocks.2.conv1.conv.weight",
        "backbone.stage2.1.blocks.2.conv2.depthwise_conv.bn.bias",
        "backbone.stage3.1.blocks.0.conv2.pointwise_conv.conv.weight",
    }
    assert not [name for name in theirs if re.search(r"\.norm\.|stem\.conv\.weight|conv2\.\d", name)]
    last = {f"backbone.stage4.{layer}.conv1.conv.weight": torch.ones(1) for layer in (1, 2)}
    back = from_mmdet({**theirs, **last}, ours, part)
    assert all(torch.equal(back[name], value) for name, value in ours.items())


def test_pooling_and_another_norm_have_their_names_too() -> None:
    part = translated(norm_cfg={"type": "GN", "num_groups": 8}, use_depthwise=True).part
    assert part.foreign_name("backbone.stage4.1.conv2.norm.weight") == "backbone.stage4.1.conv2.gn.weight"
    assert part.foreign_name("backbone.stage4.1.conv2.conv.weight") == "backbone.stage4.1.conv2.conv.weight"
