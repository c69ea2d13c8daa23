"""Deformable and weight-standardised convolutions: by hand, by loops in float64, and within a ResNet."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.layers import GN
from detcore.testing import check_backbone
from detcore_resnet.conv_ws import ConvWS
from detcore_resnet.dcn import DCN, DCNv2
from detcore_resnet.resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional as F


def bilinear(channel: Tensor, row: float, column: float) -> Tensor:
    """One value of a (H, W) map between its cells, zero outside."""
    total = channel.new_zeros(())
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < channel.shape[0] and 0 <= j < channel.shape[1]:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * channel[i, j]
    return total


def by_loops(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, deform_groups: int) -> Tensor:
    """3x3 taps, padding 1; ``offset`` (1, deform_groups * 18, H', W') holds down and right of each tap."""
    channels, (height, width) = x.shape[1], offset.shape[2:]
    inputs = weight.shape[1]  # of a group
    outputs = len(weight) * inputs // channels
    out = x.new_zeros(1, len(weight), height, width)
    for i in range(height):
        for j in range(width):
            for c in range(channels):
                for tap in range(9):
                    which = c // (channels // deform_groups) * 9 + tap
                    row = i * stride - 1 + tap // 3 + offset[0, 2 * which, i, j].item()
                    column = j * stride - 1 + tap % 3 + offset[0, 2 * which + 1, i, j].item()
                    value = bilinear(x[0, c], row, column) * mask[0, which, i, j]
                    group = slice(c // inputs * outputs, (c // inputs + 1) * outputs)
                    out[0, group, i, j] += weight[group, c % inputs, tap // 3, tap % 3] * value
    return out


@pytest.mark.parametrize("kind", [DCN, DCNv2])
@pytest.mark.parametrize(("stride", "deform_groups", "groups"), [(1, 1, 1), (2, 2, 1), (1, 1, 2), (1, 4, 2)])
def test_taps_read_where_their_offsets_send_them(kind: type[DCN], stride: int, deform_groups: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = kind(4, 6, 3, stride=stride, padding=1, groups=groups, bias=False, deform_groups=deform_groups).double()
    nn.init.normal_(conv.conv_offset.weight, std=0.3)
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        predicted = conv.conv_offset(x)
        offset, mask = predicted[:, : 18 * deform_groups], predicted[:, 18 * deform_groups :].sigmoid()
        mask = mask if kind is DCNv2 else torch.ones_like(offset[:, ::2])
        torch.testing.assert_close(conv(x), by_loops(x, offset, mask, conv.weight, stride, deform_groups))


@pytest.mark.parametrize("kind", [DCN, DCNv2])
def test_gradients_through_taps_are_those_of_finite_differences(kind: type[DCN]) -> None:
    """Offsets off the cells, where the value between four of them has a corner."""
    torch.manual_seed(0)
    conv = kind(4, 2, 3, padding=1, groups=2, bias=False, deform_groups=2).double()
    nn.init.normal_(conv.conv_offset.weight, std=0.01)
    nn.init.uniform_(conv.conv_offset.get_parameter("bias"), 0.2, 0.8)
    names = [name for name, _ in conv.named_parameters()]
    given = [each.detach().clone().requires_grad_() for each in conv.parameters()]
    x = torch.randn(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *values: torch.func.functional_call(conv, dict(zip(names, values, strict=True)), x),
        (x, *given),
        fast_mode=True,
    )


def test_a_fresh_one_is_an_ordinary_convolution() -> None:
    x = torch.randn(2, 4, 9, 7)
    for kind, factor in ((DCN, 1.0), (DCNv2, 0.5)):
        conv = kind(4, 6, 3, stride=2, padding=2, dilation=2, bias=False)
        torch.testing.assert_close(conv(x), factor * F.conv2d(x, conv.weight, stride=2, padding=2, dilation=2))


@pytest.mark.parametrize("kind", [DCN, DCNv2])
def test_positions_keep_their_precision_under_autocast(kind: type[DCN]) -> None:
    torch.manual_seed(0)
    conv = kind(4, 3, 3, padding=1)
    x = torch.randn(1, 4, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        halved = conv(x.bfloat16())
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, conv(x), rtol=0.02, atol=0.02)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        DCN(4, 3, 3, deform_groups=3)
    assert str(caught.value) == "deform_groups: 3 of 4 channels. Give a divisor of the channels."


def test_kernels_are_standardised() -> None:
    torch.manual_seed(0)
    conv = ConvWS(4, 6, 3, stride=2, padding=1, groups=2).double()
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    kernels = []
    for kernel in conv.weight:
        values = [value.item() for value in kernel.flatten()]
        mean = sum(values) / len(values)
        std = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        kernels.append((kernel - mean) / (std + 1e-5))
    torch.testing.assert_close(conv(x), F.conv2d(x, torch.stack(kernels), conv.bias, 2, 1, groups=2))


def test_gradients_through_standardised_kernels_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    conv = ConvWS(4, 2, 3, padding=1, groups=2, bias=False).double()
    x = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = conv.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, weight: torch.func.functional_call(conv, {"weight": weight}, x), (x, weight)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 50, "conv3x3": DCN},
        {"depth": 18, "conv3x3": partial(DCNv2, deform_groups=2), "conv3x3_stages": (3,)},
        {"depth": 18, "conv": ConvWS, "norm": partial(GN, num_groups=2)},
    ],
)
def test_a_resnet_of_them_is_a_backbone(options: dict[str, Any]) -> None:
    check_backbone(ResNet, width=8, **options)


def test_a_deformable_resnet_starts_as_the_ordinary_one() -> None:
    torch.manual_seed(0)
    ordinary, deformable = ResNet(depth=50, width=8).eval(), ResNet(depth=50, width=8, conv3x3=DCN).eval()
    result = deformable.load_state_dict(ordinary.state_dict(), strict=False)
    assert {name.split(".", 2)[2] for name in result.missing_keys} == {
        "conv2.conv_offset.weight",
        "conv2.conv_offset.bias",
    }
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected in zip(deformable(images), ordinary(images), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
