"""Backbone and neck against the reference's pyramids: caffe and pytorch style, every common kind of extra level."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
import torch
from detcore.layers import BN
from detcore_fpn.fpn import FPN
from detcore_resnet.resnet import ResNet
from parity import golden
from torch import nn

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fcos_r50_caffe_gn": (
        {"style": "caffe", "norm": partial(BN, frozen=True)},
        {"start_level": 1, "num_outs": 5, "extra": "on_output", "relu_before_extra": True},
    ),
    "retinanet_r50": ({}, {"start_level": 1, "num_outs": 5, "extra": "on_input"}),
    "faster_rcnn_r50": ({}, {"num_outs": 5, "extra": "max_pool"}),
}


def is_features(name: str) -> bool:
    return name.startswith(("backbone.", "neck."))


@pytest.mark.parametrize("name", CASES)
def test_the_pyramid_is_the_references(name: str) -> None:
    options, neck_options = CASES[name]
    case = golden.load(name)
    tensors = [row for row in case.info["state_dict"] if is_features(row[0])]
    case = attrs.evolve(case, info={**case.info, "state_dict": tensors})
    backbone = ResNet(depth=50, frozen_stages=1, **options)
    neck = FPN(in_channels=backbone.out_channels, in_strides=backbone.strides, **neck_options)
    model = nn.ModuleDict({"backbone": backbone, "neck": neck})

    case.fill(model, golden.rename())
    with torch.no_grad():
        case.check_maps("feats", neck(backbone(case.batch().images)))
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable == [name for name in case.info["trainable"] if is_features(name)]
    assert not backbone.bn1.training
    assert not backbone.layer4[0].bn1.training
    assert len(neck(backbone(torch.zeros(1, 3, 64, 64)))) == len(neck.strides) == 5
