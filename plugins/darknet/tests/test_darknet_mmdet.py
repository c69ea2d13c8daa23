"""Darknet of MMDetection: what comes out here, which name a tensor has there, and what is listed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from detcore_darknet.darknet import Darknet
from detcore_mmdet import Translated, from_mmdet, to_mmdet, translate


def translated(**options: Any) -> Translated:
    return translate({"type": "YOLOV3", "backbone": {"type": "Darknet", **options}})


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        ({}, {}),
        ({"depth": 53, "norm_cfg": {"type": "BN", "requires_grad": True}}, {}),
        ({"act_cfg": {"type": "LeakyReLU", "negative_slope": 0.1}, "conv_cfg": None}, {}),
        ({"act_cfg": {"type": "ReLU"}}, {"act": {"type": "ReLU"}}),
        ({"norm_cfg": {"type": "SyncBN"}}, {"norm": {"type": "SyncBN"}}),
        ({"norm_eval": False, "out_indices": [4, 5]}, {"norm_eval": False, "out_indices": [4, 5]}),
        ({"frozen_stages": 1}, {"frozen_stages": 0}),  # the first convolution alone, there and here
        ({"frozen_stages": 3}, {"frozen_stages": 2}),
        ({"frozen_stages": 0}, {}),
        ({"frozen_stages": -1}, {}),
    ],
)
def test_options(options: dict[str, Any], ours: dict[str, Any]) -> None:
    found = translated(**options)
    assert found.lost == []
    assert found.model["backbone"] == {"type": "Darknet", **ours}


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({"depth": 19}, "backbone.depth = 19: only 53 has a counterpart"),
        ({"conv_cfg": {"type": "DCN"}}, "conv_cfg = .*: only None has a counterpart"),
        ({"act_cfg": None}, "act_cfg = None: there is always one here"),
        ({"width": 2}, "backbone.width = 2: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(options: dict[str, Any], listed: str) -> None:
    (lost,) = translated(**options).lost
    assert re.search(listed, str(lost))


def test_names_of_tensors_there_and_back() -> None:
    """A stage whose map nobody asks for is there nevertheless."""
    part = translated(out_indices=[3, 4]).part
    ours = {f"backbone.{name}": each for name, each in Darknet(out_indices=(3, 4), width=0.0625).state_dict().items()}
    theirs = to_mmdet(ours, part)
    assert theirs.keys() >= {
        "backbone.conv1.conv.weight",
        "backbone.conv_res_block1.conv.bn.running_mean",
        "backbone.conv_res_block1.res0.conv1.conv.weight",
        "backbone.conv_res_block4.res7.conv2.bn.weight",
    }
    last = {"backbone.conv_res_block5.res3.conv2.bn.weight": torch.ones(1)}
    back = from_mmdet({**theirs, **last}, ours, part)
    assert all(torch.equal(back[name], value) for name, value in ours.items())
