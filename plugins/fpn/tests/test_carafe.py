"""CARAFE against loops in float64; FPN_CARAFE's way down, levels, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.testing import check_neck
from detcore_fpn.carafe import CARAFE, FPNCARAFE, reassemble
from torch import Tensor, nn


def reassembled_by_loops(x: Tensor, logits: Tensor, groups: int, side: int) -> Tensor:
    """The paper's operator: ``logits`` (B, G * K * K * 4, H, W) as the encoder gives them, before they are shuffled."""
    batch, channels, height, width = x.shape
    kernels = nn.functional.pixel_shuffle(logits, 2)  # (B, G * K * K, 2H, 2W)
    out = x.new_zeros(batch, channels, 2 * height, 2 * width)
    for b in range(batch):
        for c in range(channels):
            group = c // (channels // groups)
            for i in range(2 * height):
                for j in range(2 * width):
                    weights = kernels[b, group * side**2 : (group + 1) * side**2, i, j].softmax(0)
                    for tap, weight in enumerate(weights):
                        row, column = i // 2 + tap // side - side // 2, j // 2 + tap % side - side // 2
                        if 0 <= row < height and 0 <= column < width:
                            out[b, c, i, j] += weight * x[b, c, row, column]
    return out


@pytest.mark.parametrize(("groups", "side"), [(1, 3), (2, 3), (1, 5)])
def test_it_is_the_papers_operator(groups: int, side: int) -> None:
    torch.manual_seed(0)
    carafe = CARAFE(4, kernel=side, groups=groups, compressed_channels=3).double()
    nn.init.normal_(carafe.content_encoder.weight)
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        logits = carafe.content_encoder(carafe.channel_compressor(x))
        torch.testing.assert_close(carafe(x), reassembled_by_loops(x, logits, groups, side))


def test_its_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(1, 2, 9, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(reassemble, (x, kernels))


def test_the_gradients_of_all_of_it_are_those_of_finite_differences() -> None:
    """Kernels come from the map that they enlarge: it is told by both."""
    torch.manual_seed(0)
    carafe = CARAFE(4, kernel=3, groups=2, compressed_channels=3).double()
    nn.init.normal_(carafe.content_encoder.weight)
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(carafe, x)


def test_a_fresh_one_takes_the_mean_of_what_is_around() -> None:
    x = torch.rand(1, 4, 6, 7)
    mean = nn.functional.avg_pool2d(x, 5, stride=1, padding=2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(CARAFE(4)(x), mean, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    "options", [{}, {"num_outs": 6}, {"num_outs": 5, "start_level": 1, "act": nn.ReLU, "up_groups": 2, "up_kernel": 3}]
)
def test_it_is_a_neck(options: dict[str, Any]) -> None:
    check_neck(FPNCARAFE, out_channels=8, compressed_channels=4, **options)


def test_the_way_down_begins_at_the_deepest_level() -> None:
    torch.manual_seed(0)
    neck = FPNCARAFE(in_channels=(3, 5), in_strides=(8, 16), out_channels=4, num_outs=4)
    c3, c4 = torch.randn(2, 3, 9, 14), torch.randn(2, 5, 5, 7)
    lateral, up, out = neck.lateral_convs, neck.upsample_modules, neck.fpn_convs
    p5 = lateral[2](c4)
    p6 = lateral[3](p5)
    p5 = p5 + up[2](p6)[..., :3, :4]
    p4 = lateral[1](c4) + up[1](p5)[..., :5, :7]
    p3 = lateral[0](c3) + up[0](p4)[..., :9, :14]
    for ours, expected in zip(neck([c3, c4]), (out[0](p3), out[1](p4), out[2](p5), out[3](p6)), strict=True):
        torch.testing.assert_close(ours, expected)
    assert neck.strides == (8, 16, 32, 64)


def test_tensors_have_the_names_that_other_toolboxes_give_them() -> None:
    neck = FPNCARAFE(in_channels=(3, 5), in_strides=(8, 16), out_channels=4)
    shapes = {name: tuple(each.shape) for name, each in neck.state_dict().items() if name.startswith("upsample")}
    assert shapes == {
        "upsample_modules.0.channel_compressor.weight": (64, 4, 1, 1),
        "upsample_modules.0.channel_compressor.bias": (64,),
        "upsample_modules.0.content_encoder.weight": (100, 64, 3, 3),
        "upsample_modules.0.content_encoder.bias": (100,),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_outs": 2},
         "num_outs: 2, but 3 maps are read. Give as many or more, or read fewer by start_level and end_level."),
        ({"up_kernel": 4}, "up_kernel: 4. Give an odd side, so that a kernel has a centre."),
        ({"encoder_kernel": 0}, "encoder_kernel: 0. Give an odd side, so that a kernel has a centre."),
        ({"up_groups": 3}, "up_groups: 3 of 256 channels. Give a divisor of the channels."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FPNCARAFE(in_channels=(3, 5, 7), in_strides=(8, 16, 32), **options)
    assert str(caught.value) == message
