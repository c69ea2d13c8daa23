"""PAFPN: the way back up written plainly, its extra levels, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.testing import check_neck
from detcore_fpn.fpn import FPN
from detcore_fpn.pafpn import PAFPN
from torch import Tensor, nn


def maps() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, 9, 14), torch.randn(2, 5, 5, 7), torch.randn(2, 7, 3, 4)]


def pafpn(**options: Any) -> PAFPN:
    return PAFPN(in_channels=(3, 5, 7), in_strides=(8, 16, 32), out_channels=4, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_outs": 5, "extra": "max_pool"},
        {"num_outs": 5, "extra": "on_input", "start_level": 1, "relu_before_extra": True, "act": nn.ReLU},
    ],
)
def test_it_is_a_neck(options: dict[str, Any]) -> None:
    check_neck(PAFPN, out_channels=8, **options)


@pytest.mark.parametrize("extra", ["max_pool", "on_input", "on_lateral", "on_output"])
def test_each_output_receives_the_shallower_one(extra: Any) -> None:
    neck = pafpn(num_outs=5, extra=extra)
    plain = FPN(in_channels=(3, 5, 7), in_strides=(8, 16, 32), out_channels=4, num_outs=5, extra=extra)
    plain.load_state_dict({k: v for k, v in neck.state_dict().items() if k in plain.state_dict()})
    down, up = neck.downsample_convs, neck.pafpn_convs
    p3, p4, p5, p6, _ = plain(maps())
    n3, n4 = p3, p4 + down[0](p3)
    n5 = p5 + down[1](n4)
    outs = neck(maps())
    for ours, expected in zip(outs, (n3, up[0](n4), up[1](n5)), strict=False):
        torch.testing.assert_close(ours, expected)
    if extra == "max_pool":
        p6 = outs[2][..., ::2, ::2]
    if extra == "on_output":
        p6 = neck.fpn_convs[-2](outs[2])
    torch.testing.assert_close(outs[3], p6)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    neck = pafpn(num_outs=4, extra="on_output").double()
    given = [torch.randn(1, c, *size, dtype=torch.float64) for c, size in ((3, (5, 7)), (5, (3, 4)), (7, (2, 2)))]
    given = [each.requires_grad_() for each in given]
    assert torch.autograd.gradcheck(lambda *maps: tuple(neck(maps)), given, fast_mode=True)


def test_weights_are_drawn_after_glorot_and_biases_are_zero() -> None:
    neck = PAFPN(in_channels=(64, 64), in_strides=(8, 16), out_channels=64)
    bound = (6 / (64 * 9 * 2)) ** 0.5
    for layer in (neck.downsample_convs[0].conv, neck.pafpn_convs[0].conv):
        assert bound * 0.99 < layer.weight.abs().max().item() <= bound
        assert not layer.bias.any()


def test_strides_that_do_not_double_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        PAFPN(in_channels=(3, 5, 7), in_strides=(8, 16, 16))
    message = "in_strides: 8, 16, 16. This neck reads maps of which each has twice the stride of the last."
    assert str(caught.value) == message
    PAFPN(in_channels=(3, 5, 7), in_strides=(8, 16, 16), end_level=1)
