"""HRNet: its branches, exchanges by hand, what it declares; HRFPN: its pyramid by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.layers import BN
from detcore_hrnet.hrfpn import HRFPN
from detcore_hrnet.hrnet import HighResolutionModule, HRNet
from torch import Tensor, nn
from torch.nn import functional as F

MILLIONS = {18: 9.6, 32: 29.3, 40: 45.6}
"""Parameters of the networks as far as the paper's detectors use them (without a classifier)."""


@pytest.mark.parametrize("width", MILLIONS)
def test_the_papers_widths_have_the_papers_sizes(width: int) -> None:
    with torch.device("meta"):
        backbone = HRNet(width=width)
    assert backbone.out_channels == (width, 2 * width, 4 * width, 8 * width)
    assert sum(each.numel() for each in backbone.parameters()) / 1e6 == pytest.approx(MILLIONS[width], abs=0.1)


def test_stages_have_the_exchanges_they_are_given() -> None:
    backbone = HRNet(width=4, modules=(2, 3, 1), blocks=2)
    assert [len(backbone.get_submodule(f"stage{stage}")) for stage in (2, 3, 4)] == [2, 3, 1]  # type: ignore[arg-type]
    assert len(backbone.layer1) == 2
    assert [len(each.branches) for each in backbone.get_submodule("stage4").children()] == [4]  # type: ignore[arg-type]


def test_each_branch_receives_the_sum_of_all() -> None:
    torch.manual_seed(0)
    module = HighResolutionModule((2, 3, 5), 1, BN).eval()
    x = [torch.randn(1, 2, 9, 12), torch.randn(1, 3, 5, 6), torch.randn(1, 5, 3, 3)]
    high, middle, low = (branch(each) for branch, each in zip(module.branches, x, strict=True))
    fuse: Any = module.fuse_layers

    def enlarged(each: Tensor, like: Tensor) -> Tensor:
        rows, columns = (torch.arange(n) * m // n for n, m in zip(like.shape[2:], each.shape[2:], strict=True))
        return each[:, :, rows][:, :, :, columns]

    expected = [
        high + enlarged(fuse[0][1](middle), high) + enlarged(fuse[0][2](low), high),
        fuse[1][0](high) + middle + enlarged(fuse[1][2](low), middle),
        fuse[2][0](high) + fuse[2][1](middle) + low,
    ]
    for ours, each in zip(module(x), expected, strict=True):
        torch.testing.assert_close(ours, each.clamp(min=0))
    kinds = [[type(layer).__name__ for layer in step] for step in fuse[2][0]]
    assert kinds == [["Conv2d", "BatchNorm2d", "ReLU"], ["Conv2d", "BatchNorm2d"]]


@pytest.mark.parametrize("norm_eval", [True, False])
def test_statistics_change_in_training_only_without_norm_eval(norm_eval: bool) -> None:
    backbone = HRNet(width=4, modules=(1, 1, 1), blocks=1, norm_eval=norm_eval).eval().train()
    backbone(torch.rand(2, 3, 64, 64))
    norms = [each for each in backbone.modules() if isinstance(each, nn.BatchNorm2d)]
    assert [bool(each.get_buffer("running_mean").any()) for each in norms] == [not norm_eval] * len(norms)


@pytest.mark.parametrize("modules", [(1, 4), (1, 0, 3)])
def test_modules_that_cannot_be_are_said_in_one_line(modules: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        HRNet(modules=modules)
    assert str(caught.value) == f"modules: {list(modules)}. Give one number for each of the stages 2, 3 and 4."


@pytest.mark.parametrize(("pooling", "pool"), [("avg", torch.mean), ("max", torch.amax)])
def test_the_pyramid_is_pooled_from_all_maps_joined(pooling: Any, pool: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    neck = HRFPN(in_channels=(2, 3), in_strides=(4, 8), out_channels=6, num_outs=3, pooling=pooling)
    high, low = torch.randn(1, 2, 10, 8), torch.randn(1, 3, 5, 4)
    joined = neck.reduction_conv(torch.cat([high, F.interpolate(low, scale_factor=2, mode="bilinear")], dim=1))
    outs = neck([high, low])
    assert [tuple(each.shape[2:]) for each in outs] == [(10, 8), (5, 4), (3, 2)]
    half = torch.stack([joined[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    torch.testing.assert_close(outs[0], neck.fpn_convs[0](joined))
    torch.testing.assert_close(outs[1], neck.fpn_convs[1](pool(half, dim=0)))
    rows = [joined[:, :, 0:4], joined[:, :, 4:8], joined[:, :, 8:10]]  # the last window is cut off at the border
    cells = [[pool(row[..., 4 * j : 4 * j + 4], dim=(2, 3)) for j in (0, 1)] for row in rows]
    quarter = torch.stack([torch.stack(row, dim=-1) for row in cells], dim=2)
    torch.testing.assert_close(outs[2], neck.fpn_convs[2](quarter))
    assert neck.strides == (4, 8, 16)


def test_a_stride_takes_every_second_cell_of_each_level() -> None:
    torch.manual_seed(0)
    dense = HRFPN(in_channels=(2, 3), in_strides=(4, 8), out_channels=6, num_outs=2)
    neck = HRFPN(in_channels=(2, 3), in_strides=(4, 8), out_channels=6, num_outs=2, stride=2)
    neck.load_state_dict(dense.state_dict())
    x = [torch.randn(1, 2, 10, 9), torch.randn(1, 3, 5, 5)]
    for ours, each in zip(neck(x), dense(x), strict=True):
        torch.testing.assert_close(ours, each[:, :, ::2, ::2])
    assert neck.strides == (8, 16)


@pytest.mark.parametrize("option", ["num_outs", "stride"])
def test_a_neck_without_outputs_is_refused(option: str) -> None:
    options: dict[str, Any] = {option: 0}
    with pytest.raises(ConfigError) as caught:
        HRFPN(in_channels=(2,), in_strides=(4,), **options)
    assert str(caught.value) == f"{option}: 0. Give 1 or more."
