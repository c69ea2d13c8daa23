"""The hourglass backbone; that it computes what the reference computes is held by tests/parity."""

from __future__ import annotations

import pytest
import torch
from detcore.errors import ConfigError
from detcore.layers import GN
from detcore_hourglass.hourglass import Hourglass, HourglassModule, Residual
from torch import nn

SMALL = {"downsample_times": 2, "stage_channels": (8, 12, 16), "stage_blocks": (1, 2, 1), "stem_channels": 4}


@pytest.mark.parametrize("stacks", [1, 2, 3])
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (4, 4), (1, 1)])
def test_each_stack_gives_a_map_of_stride_four_with_the_declared_channels(stacks: int, size: tuple[int, int]) -> None:
    backbone = Hourglass(num_stacks=stacks, **SMALL).eval()
    maps = backbone(torch.randn(2, 3, *size))
    assert tuple(backbone.out_channels) == (8,) * stacks
    assert tuple(backbone.strides) == (4,) * stacks
    assert [tuple(each.shape) for each in maps] == [(2, 8, -(-size[0] // 4), -(-size[1] // 4))] * stacks


def test_every_parameter_has_a_gradient_from_the_last_map_but_those_of_no_later_stack() -> None:
    backbone = Hourglass(num_stacks=2, **SMALL)
    backbone(torch.randn(2, 3, 64, 64))[0].sum().backward()
    without = {name.split(".")[0] for name, each in backbone.named_parameters() if each.grad is None}
    assert without == {"hourglasses", "outputs", "merge_input", "merge_output", "between"}
    assert all(each.grad is not None for each in backbone.hourglasses[0].parameters())
    backbone(torch.randn(2, 3, 64, 64))[1].sum().backward()
    assert all(each.grad is not None for each in backbone.parameters())


def test_an_hourglass_adds_what_went_past_to_what_went_down() -> None:
    module = HourglassModule((4, 6), (1, 1)).eval()
    x = torch.randn(1, 4, 6, 6)
    nn.init.zeros_(module.up[-1].conv2.norm.weight)
    nn.init.zeros_(module.up[-1].shortcut.norm.weight)  # what comes from below is then relu(0)
    torch.testing.assert_close(module(x), module.skip(x))


def test_a_residual_projects_only_where_the_shape_changes() -> None:
    assert isinstance(Residual(4, 4).shortcut, nn.Identity)
    assert not isinstance(Residual(4, 6).shortcut, nn.Identity)
    assert not isinstance(Residual(4, 4, stride=2).shortcut, nn.Identity)


def test_the_norm_is_the_config_s() -> None:
    backbone = Hourglass(norm=lambda channels: GN(channels, num_groups=2), **SMALL)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in backbone.modules())


def test_numbers_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"6 stage_channels for downsample_times = 4\. Give 5: one per scale"):
        Hourglass(downsample_times=4)
    with pytest.raises(ConfigError, match=r"2 stage_blocks for downsample_times = 5\. Give 6"):
        Hourglass(stage_blocks=(2, 2))
    with pytest.raises(ConfigError, match="a number below 1"):
        Hourglass(num_stacks=0)
