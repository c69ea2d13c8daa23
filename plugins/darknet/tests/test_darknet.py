"""Darknet-53: its maps, what is frozen, and its block by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.testing import check_backbone
from detcore_darknet.darknet import Darknet, ResidualBlock
from torch import nn


def backbone(**options: Any) -> Darknet:
    return Darknet(**{"width": 0.125, **options})


@pytest.mark.parametrize("options", [{}, {"out_indices": (0, 2)}, {"frozen_stages": 2, "norm_eval": False}])
def test_it_is_a_backbone(options: dict[str, Any]) -> None:
    check_backbone(Darknet, width=0.125, **options)


def test_it_has_53_convolutional_layers_less_the_classifier() -> None:
    assert sum(isinstance(each, nn.Conv2d) for each in Darknet().modules()) == 52


@pytest.mark.parametrize(
    ("options", "channels", "strides"),
    [
        ({}, (32, 64, 128), (8, 16, 32)),
        ({"out_indices": (0, 1, 5)}, (4, 8, 128), (1, 2, 32)),
        ({"out_indices": (2,), "act": nn.ReLU}, (16,), (4,)),
    ],
)
@pytest.mark.parametrize("size", [(64, 96), (65, 130)])
def test_maps_are_as_declared(
    options: dict[str, Any], channels: tuple[int, ...], strides: tuple[int, ...], size: tuple[int, int]
) -> None:
    model = backbone(**options).eval()
    assert (model.out_channels, model.strides) == (channels, strides)
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, *size))
    expected = [(1, c, -(-size[0] // s), -(-size[1] // s)) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(each.shape) for each in maps] == expected


def test_nothing_is_built_in_vain() -> None:
    model = backbone(out_indices=(3,))
    assert [len(model.get_submodule(f"stage{stage}")) for stage in (1, 2, 3)] == [2, 3, 9]  # type: ignore[arg-type]
    assert not hasattr(model, "stage4")


def test_a_block_adds_what_its_convolutions_say() -> None:
    """2 channels of -1 to 1 channel of -2, leaky -0.2; back to 2 channels of 3 * -0.2, leaky -0.06; plus the input."""
    block = ResidualBlock(2, norm=nn.Identity)  # type: ignore[arg-type]
    block.conv1.conv.weight.data.fill_(1)
    block.conv2.conv.weight.data.zero_()[..., 1, 1] = 3
    assert block(torch.full((1, 2, 1, 1), -1.0)).flatten().tolist() == pytest.approx([-1.06, -1.06])


@pytest.mark.parametrize("norm_eval", [False, True])
def test_frozen_stages_keep_weights_and_statistics(norm_eval: bool) -> None:
    model = backbone(frozen_stages=1, norm_eval=norm_eval).train()
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"stage2", "stage3", "stage4", "stage5"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.rand(2, 3, 64, 64))
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == (set() if norm_eval else trained)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"out_indices": (4, 2)},
            "out_indices: [4, 2]. Give stages from 0 (the first convolution) to 5, each once, in rising order.",
        ),
        (
            {"out_indices": (6,)},
            "out_indices: [6]. Give stages from 0 (the first convolution) to 5, each once, in rising order.",
        ),
        ({"frozen_stages": 6}, "frozen_stages: 6. Give -1 (none) to 5 (all)."),
        ({"width": 0.05}, "width: 0.05 leaves 1 channels. Give at least 0.0625."),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        backbone(**options)
    assert str(error.value) == message
