"""A stage of a ResNet on regions: against plain loops in float64, what flows, what trains."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import RoIExtractor
from detcore.layers import BN
from detcore_resnet.resnet import ResNet
from detcore_resnet.roi_stage import ResNetStageExtractor
from torch import Tensor, nn


class Whole(RoIExtractor):
    """The first map, once for each region, times the scale."""

    def __init__(self, channels: int = 8, roi_size: int = 4) -> None:
        super().__init__()
        self.out_channels, self.roi_size = channels, roi_size

    def forward(self, features: Any, rois: Tensor, scale: float = 1.0) -> Tensor:
        return features[0].expand(len(rois), -1, -1, -1) * scale


def stage(**options: Any) -> ResNetStageExtractor:
    torch.manual_seed(0)
    return ResNetStageExtractor(**{"extractor": Whole(), "depth": 50} | options)


# --------------------------------------------------------------------------------------------------- a plain reference


def conv_norm(maps: Tensor, state: dict[str, Tensor], names: tuple[str, str], stride: int, dilation: int = 1) -> Tensor:
    """A convolution, number by number, then a batch norm by its running statistics."""
    weight, norm = state[f"{names[0]}.weight"], names[1]
    reach = weight.shape[-1] // 2
    sides = [-(-side // stride) for side in maps.shape[1:]]
    out = torch.zeros(len(weight), *sides, dtype=torch.float64)
    for y in range(sides[0]):
        for x in range(sides[1]):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    row, column = y * stride + dy * dilation, x * stride + dx * dilation
                    if 0 <= row < maps.shape[1] and 0 <= column < maps.shape[2]:
                        out[:, y, x] += weight[:, :, dy + reach, dx + reach] @ maps[:, row, column]
    mean, variance, gain, shift = (
        state[f"{norm}.{each}"][:, None, None] for each in ("running_mean", "running_var", "weight", "bias")
    )
    return (out - mean) / (variance + 1e-5).sqrt() * gain + shift


def residual(maps: Tensor, state: dict[str, Tensor], block: str, stride: int, dilation: int, caffe: bool) -> Tensor:
    first, second = (stride, 1) if caffe else (1, stride)
    shortcut = maps
    if f"{block}.downsample.0.weight" in state:
        shortcut = conv_norm(maps, state, (f"{block}.downsample.0", f"{block}.downsample.1"), stride)
    out = conv_norm(maps, state, (f"{block}.conv1", f"{block}.bn1"), first).clamp(min=0)
    out = conv_norm(out, state, (f"{block}.conv2", f"{block}.bn2"), second, dilation).clamp(min=0)
    return (conv_norm(out, state, (f"{block}.conv3", f"{block}.bn3"), 1) + shortcut).clamp(min=0)


@pytest.mark.parametrize("style", ["pytorch", "caffe"])
@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 2)])
def test_equals_a_plain_loop(style: str, stride: int, dilation: int) -> None:
    module = stage(style=style, stride=stride, dilation=dilation).double().eval()
    torch.manual_seed(1)
    state = {
        name: torch.rand_like(value) + 0.5 if name.endswith("var") else 0.5 * torch.randn_like(value)
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }
    module.load_state_dict(state, strict=False)
    maps = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    found = module([maps], torch.zeros(1, 5))[0]
    wanted = maps[0]
    for block in range(3):
        wanted = residual(wanted, state, f"layer4.{block}", stride if block == 0 else 1, dilation, style == "caffe")
    assert found.shape == (16, module.roi_size, module.roi_size)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    module = stage(extractor=Whole(4, 2), depth=18).double().eval()
    maps = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: module([given], torch.zeros(1, 5)), [maps])


# ------------------------------------------------------------------------------------------------- the last stage's twin


@pytest.mark.parametrize(("depth", "number"), [(50, 3), (18, 3), (50, 2)])
def test_it_is_what_the_backbone_would_do_next(depth: int, number: int) -> None:
    """With the backbone's weights, the map of the stage before gives the stage's own map."""
    torch.manual_seed(0)
    backbone = ResNet(depth=depth, width=8).eval()
    with torch.no_grad():
        *_, before, after = backbone(torch.randn(1, 3, 64, 64))[: number + 1]
        module = stage(extractor=Whole(before.shape[1], before.shape[-1]), depth=depth, stage=number).eval()
        weights = {
            name: value for name, value in backbone.state_dict().items() if name.startswith(f"layer{number + 1}.")
        }
        module.load_state_dict(weights)
        found = module([before], torch.zeros(1, 5))
    assert (module.out_channels, module.roi_size) == (after.shape[1], after.shape[-1])
    torch.testing.assert_close(found, after)


def test_the_scale_goes_to_the_extractor() -> None:
    module, maps, rois = stage().eval(), torch.randn(1, 8, 4, 4), torch.zeros(2, 5)
    torch.testing.assert_close(module([maps], rois, 1.5), module([maps * 1.5], rois))


def test_no_region_gives_a_gradient_to_every_parameter() -> None:
    module = stage().train()
    module([torch.randn(1, 8, 4, 4)], torch.zeros(0, 5)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize(("norm_eval", "training"), [(True, False), (False, True)])
def test_statistics_are_kept_where_they_should_be(norm_eval: bool, training: bool) -> None:
    norms = [each for each in stage(norm_eval=norm_eval).train().modules() if isinstance(each, nn.BatchNorm2d)]
    assert [each.training for each in norms] == [training] * len(norms)


def test_frozen_norms_do_not_train() -> None:
    trained = [name for name, each in stage(norm=partial(BN, frozen=True)).named_parameters() if each.requires_grad]
    assert trained
    assert all("conv" in name or name.endswith("downsample.0.weight") for name in trained)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 51}, "depth: there is no ResNet-51. Depths are 18, 34, 50, 101, 152."),
        ({"stage": 0}, "stage: 0. Give 1, 2 or 3: there is one before it."),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        stage(**options)
    assert message in str(error.value)
