"""FPN: against a plainly written pyramid, its extra levels, and what it declares."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.layers import GN
from detcore_fpn.fpn import FPN
from torch import Tensor, nn

CHANNELS, STRIDES = (3, 5, 7), (8, 16, 32)


def maps(height: int = 64, width: int = 96) -> list[Tensor]:
    """Maps of an image of this size, sides rounded up."""
    torch.manual_seed(0)
    return [torch.randn(2, c, -(-height // s), -(-width // s)) for c, s in zip(CHANNELS, STRIDES, strict=True)]


def fpn(**options: Any) -> FPN:
    return FPN(in_channels=CHANNELS, in_strides=STRIDES, out_channels=4, **options)


def conforms(neck: FPN) -> None:
    """Maps are as declared, for odd sizes too."""
    for height, width in ((64, 96), (97, 131), (33, 250)):
        outs = neck(maps(height, width))
        sizes = [(2, channels, -(-height // stride), -(-width // stride))
                 for channels, stride in zip(neck.out_channels, neck.strides, strict=True)]  # fmt: skip
        assert [tuple(each.shape) for each in outs] == sizes


@pytest.mark.parametrize(
    ("options", "strides"),
    [
        ({}, (8, 16, 32)),
        ({"num_outs": 3, "extra": "on_input"}, (8, 16, 32)),
        ({"num_outs": 5, "extra": "max_pool"}, (8, 16, 32, 64, 128)),
        ({"num_outs": 5, "extra": "on_input"}, (8, 16, 32, 64, 128)),
        ({"num_outs": 4, "extra": "on_lateral", "start_level": 1}, (16, 32, 64, 128)),
        ({"num_outs": 4, "extra": "on_output", "end_level": 1, "relu_before_extra": True}, (8, 16, 32, 64)),
        ({"num_outs": 2, "end_level": -2, "norm": partial(GN, num_groups=2), "act": nn.ReLU}, (8, 16)),
    ],
)
def test_maps_are_as_declared(options: dict[str, Any], strides: tuple[int, ...]) -> None:
    neck = fpn(**options)
    assert neck.strides == strides
    assert neck.out_channels == (4,) * len(strides)
    conforms(neck)


def nearest(x: Tensor, height: int, width: int) -> Tensor:
    rows = torch.arange(height) * x.shape[2] // height
    columns = torch.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize("size", [(64, 96), (97, 131)])
def test_deeper_maps_are_added_to_shallower_ones(size: tuple[int, int]) -> None:
    neck, (c3, c4, c5) = fpn(), maps(*size)
    lateral, out = neck.lateral_convs, neck.fpn_convs
    p5 = lateral[2](c5)
    p4 = lateral[1](c4) + nearest(p5, *c4.shape[2:])
    p3 = lateral[0](c3) + nearest(p4, *c3.shape[2:])
    for ours, expected in zip(neck([c3, c4, c5]), (out[0](p3), out[1](p4), out[2](p5)), strict=True):
        torch.testing.assert_close(ours, expected)


def test_the_extra_levels_are_made_from_what_extra_names() -> None:
    c5 = maps()[2]
    for extra, relu in [("on_input", False), ("on_lateral", False), ("on_output", False), ("on_output", True)]:
        neck = fpn(num_outs=5, extra=extra, relu_before_extra=relu)
        outs = neck(maps())
        lateral = neck.lateral_convs[2](c5)
        source = {"on_input": c5, "on_lateral": lateral, "on_output": neck.fpn_convs[2](lateral)}[extra]
        p6 = neck.fpn_convs[3](source)
        p7 = neck.fpn_convs[4](p6.relu() if relu else p6)
        torch.testing.assert_close(outs[3], p6)
        torch.testing.assert_close(outs[4], p7)
        assert neck.fpn_convs[3].conv.in_channels == (7 if extra == "on_input" else 4)


def test_max_pool_picks_every_second_cell_and_has_no_parameters() -> None:
    neck = fpn(num_outs=5, extra="max_pool")
    outs = neck(maps())
    torch.testing.assert_close(outs[3], outs[2][:, :, ::2, ::2])
    torch.testing.assert_close(outs[4], outs[3][:, :, ::2, ::2])
    assert len(neck.fpn_convs) == 3


def test_only_the_levels_between_start_and_end_are_read() -> None:
    neck = fpn(start_level=1, end_level=1)
    c3, c4, c5 = maps()
    torch.testing.assert_close(neck([c3, c4, c5])[0], neck([c3 + 1, c4, c5 + 1])[0])
    assert [tuple(each.shape) for each in neck.state_dict().values()] == [(4, 5, 1, 1), (4,), (4, 4, 3, 3), (4,)]


def test_a_norm_takes_the_place_of_the_bias() -> None:
    neck = fpn(norm=partial(GN, num_groups=2), norm_on_lateral=False)
    assert sorted(name for name, _ in neck.lateral_convs[0].named_parameters()) == ["conv.bias", "conv.weight"]
    names = ["conv.weight", "norm.bias", "norm.weight"]
    assert sorted(name for name, _ in neck.fpn_convs[0].named_parameters()) == names


def test_weights_are_drawn_after_glorot_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    neck = FPN(in_channels=(64,), in_strides=(8,), out_channels=64)
    weight = neck.fpn_convs[0].conv.weight
    bound = (6 / (64 * 9 * 2)) ** 0.5
    assert bound * 0.99 < weight.abs().max().item() <= bound
    assert not neck.fpn_convs[0].conv.bias.any()


@pytest.mark.parametrize("extra", ["max_pool", "on_input", "on_lateral", "on_output"])
def test_gradients_reach_every_parameter(extra: Any) -> None:
    neck = fpn(num_outs=5, extra=extra)
    sum(each.sum() for each in neck(maps())).backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_outs": 2, "extra": "max_pool"},
         "num_outs: 2, but 3 maps are read. Give as many or more, or read fewer by start_level and end_level."),
        ({"num_outs": 5},
         "num_outs: 5, but 3 maps are read and nothing says how to make more. "
         'Give extra = "max_pool", "on_input", "on_lateral" or "on_output".'),
        ({"start_level": 3},
         "start_level: start_level = 3 and end_level = -1 of 3 maps. Give 0 <= start_level <= end_level <= 2."),
        ({"end_level": 3},
         "start_level: start_level = 0 and end_level = 3 of 3 maps. Give 0 <= start_level <= end_level <= 2."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fpn(**options)
    assert str(caught.value) == message
