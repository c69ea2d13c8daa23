"""Backbones and necks against the reference's pyramids."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import pytest
import torch
from detcore.interfaces import Backbone, Neck
from detcore.layers import BN
from detcore_fpn.fpn import FPN
from detcore_fpn.pafpn import PAFPN
from detcore_hrnet.hrfpn import HRFPN
from detcore_hrnet.hrnet import HRNet
from detcore_resnet.dcn import DCN
from detcore_resnet.resnet import ResNet
from detcore_swin.swin import SwinTransformer
from parity import golden
from torch import nn

ResNet50 = partial(ResNet, depth=50, frozen_stages=1)

CASES: dict[str, tuple[Callable[..., Backbone], Callable[..., Neck]]] = {
    "fcos_r50_caffe_gn": (
        partial(ResNet50, style="caffe", norm=partial(BN, frozen=True)),
        partial(FPN, start_level=1, num_outs=5, extra="on_output", relu_before_extra=True),
    ),
    "retinanet_r50": (ResNet50, partial(FPN, start_level=1, num_outs=5, extra="on_input")),
    "faster_rcnn_r50": (ResNet50, partial(FPN, num_outs=5, extra="max_pool")),
    "faster_rcnn_r50_dcn": (partial(ResNet50, conv3x3=DCN), partial(FPN, num_outs=5, extra="max_pool")),
    "faster_rcnn_r50_pafpn": (ResNet50, partial(PAFPN, num_outs=5, extra="max_pool")),
    "faster_rcnn_hrnet_w18": (partial(HRNet, width=18), HRFPN),
    "mask_rcnn_swin_t": (SwinTransformer, partial(FPN, num_outs=5, extra="max_pool")),
}


def is_features(name: str) -> bool:
    return name.startswith(("backbone.", "neck."))


@pytest.mark.parametrize("name", CASES)
def test_the_pyramid_is_the_references(name: str) -> None:
    make_backbone, make_neck = CASES[name]
    case = golden.load(name)
    tensors = [row for row in case.info["state_dict"] if is_features(row[0])]
    case = attrs.evolve(case, info={**case.info, "state_dict": tensors})
    backbone = make_backbone()
    neck = make_neck(in_channels=backbone.out_channels, in_strides=backbone.strides)
    model = nn.ModuleDict({"backbone": backbone, "neck": neck})

    case.fill(model.eval(), golden.rename())
    with torch.no_grad():
        case.check_maps("feats", neck(backbone(case.batch().images)))
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable == [name for name in case.info["trainable"] if is_features(name)]
    assert not any(module.training for module in model.train().modules() if isinstance(module, nn.BatchNorm2d))
    assert len(neck(backbone(torch.zeros(1, 3, 64, 64)))) == len(neck.strides) == 5
