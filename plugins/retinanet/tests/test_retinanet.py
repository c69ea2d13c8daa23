"""The towers of RetinaNet."""

from __future__ import annotations

import importlib

import pytest
import torch
from detcore.interfaces import HeadNetwork
from detcore.layers import GN
from detcore_retinanet.plugin import detcore_components
from detcore_retinanet.retinanet import RetinaTowers
from torch import nn


def towers(**options: object) -> RetinaTowers:
    shapes = {"in_channels": 6, "class_channels": 5, "box_channels": 4, "priors_per_cell": 3, "feat_channels": 8}
    return RetinaTowers(**(shapes | options))  # type: ignore[arg-type]


def test_the_component_is_a_head_network() -> None:
    for component in detcore_components():
        module, name = component.target.split(":")
        assert component.kind == "head_network"
        assert issubclass(getattr(importlib.import_module(module), name), HeadNetwork)


def test_maps_of_every_level() -> None:
    raw = towers()([torch.randn(2, 6, 8, 7), torch.randn(2, 6, 1, 1)])
    assert [tuple(level.shape) for level in raw["cls"]] == [(2, 15, 8, 7), (2, 15, 1, 1)]
    assert [tuple(level.shape) for level in raw["box"]] == [(2, 12, 8, 7), (2, 12, 1, 1)]


def test_every_class_starts_at_the_prior_probability() -> None:
    maps = [torch.zeros(1, 6, 4, 4)]
    torch.testing.assert_close(towers()(maps)["cls"][0].sigmoid(), torch.full((1, 15, 4, 4), 0.01))
    found = towers(prior_probability=0.2)(maps)["cls"][0].sigmoid()
    torch.testing.assert_close(found, torch.full((1, 15, 4, 4), 0.2))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_and_norm(depth: int) -> None:
    network = towers(stacked_convs=depth, norm=lambda channels: GN(channels, num_groups=2))
    kinds = [type(layer) for layer in network.modules()]
    assert kinds.count(nn.Conv2d) == 2 * depth + 2
    assert kinds.count(nn.GroupNorm) == 2 * depth
    assert network([torch.randn(1, 6, 2, 2)])["cls"][0].shape == (1, 15, 2, 2)


def test_the_two_towers_share_nothing() -> None:
    network = towers()
    network([torch.randn(1, 6, 4, 4)])["box"][0].sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == name.startswith("box"), name
