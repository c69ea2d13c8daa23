"""CSPDarknet: its maps, what is frozen, and its blocks by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore_csp_darknet.csp_darknet import SPP, Blocks, Bottleneck, CSPDarknet, CSPLayer, space_to_depth
from torch import nn

PLAIN = Blocks(norm=None, act=None)


def backbone(**options: Any) -> CSPDarknet:
    return CSPDarknet(**{"deepen_factor": 0.33, "widen_factor": 0.0625, **options})


@pytest.mark.parametrize(
    ("options", "channels", "strides"),
    [
        ({}, (16, 32, 64), (8, 16, 32)),
        ({"out_indices": (0, 1, 2, 3, 4)}, (4, 8, 16, 32, 64), (2, 4, 8, 16, 32)),
        ({"arch": "P6", "out_indices": (3, 4, 5)}, (32, 48, 64), (16, 32, 64)),
        ({"out_indices": (1,), "depthwise": True}, (8,), (4,)),
        ({"spp_kernel_sizes": (3,), "act": nn.ReLU}, (16, 32, 64), (8, 16, 32)),
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


def test_depth_and_width_are_scaled_and_nothing_is_built_in_vain() -> None:
    model = backbone(deepen_factor=0.67, out_indices=(3,))
    assert [len(getattr(model, f"stage{stage}")[1].blocks) for stage in (1, 2, 3)] == [2, 6, 6]
    assert not hasattr(model, "stage4")
    assert len(backbone(deepen_factor=0.01).stage1[1].blocks) == 1


def test_the_last_stage_pools_and_has_no_shortcuts() -> None:
    model = backbone()
    assert isinstance(model.stage4[1], SPP)
    assert not model.stage4[2].blocks[0].shortcut
    assert model.stage3[1].blocks[0].shortcut


def test_pixels_of_a_square_side_by_side() -> None:
    """Upper left, lower left, upper right, lower right; a missing column is zeros."""
    image = torch.arange(1.0, 7).reshape(1, 1, 2, 3)  # 1 2 3 / 4 5 6
    assert space_to_depth(image)[0].flatten(1).tolist() == [[1, 3], [4, 6], [2, 0], [5, 0]]


def test_pooling_puts_maxima_beside_the_map() -> None:
    pool = SPP(2, blocks=PLAIN, kernel_sizes=(3, 5))
    for parameter in pool.parameters():
        nn.init.zeros_(parameter)
    pool.conv1.get_parameter("conv.weight").data[0, 0] = 1
    weight = pool.conv2.get_parameter("conv.weight").data
    weight[0, 1], weight[1, 2] = 1, 1
    x = torch.zeros(1, 2, 1, 5)
    x[0, 0, 0, 4] = 7
    assert pool(x)[0, :, 0].tolist() == [[0, 0, 0, 7, 7], [0, 0, 7, 7, 7]]


def test_half_goes_through_the_bottlenecks_and_half_around() -> None:
    """All 1x1 weights 1, the 3x3 convolution 2 in its middle: main 2 -> 2 + 2 * 2 = 6 with shortcut, 4 without; short 2."""
    for shortcut, expected in ((True, 8), (False, 6)):
        layer = CSPLayer(2, 2, num_blocks=1, blocks=PLAIN, shortcut=shortcut)
        for name, parameter in layer.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.ones_(parameter)
        middle = layer.blocks[0].get_parameter("conv2.conv.weight").data
        middle.zero_()[..., 1, 1] = 2
        assert layer(torch.ones(1, 2, 1, 1)).flatten().tolist() == [expected] * 2


def test_depthwise_is_a_3x3_per_channel_and_then_a_1x1() -> None:
    first, second = Bottleneck(4, blocks=Blocks(depthwise=True)).conv2
    assert (first.conv.kernel_size, first.conv.groups) == ((3, 3), 4)
    assert (second.conv.kernel_size, second.conv.groups) == ((1, 1), 1)


def test_frozen_stages_keep_weights_and_statistics() -> None:
    model = backbone(frozen_stages=1).train()
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"stage2", "stage3", "stage4"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.rand(2, 3, 64, 64))
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"stage2", "stage3", "stage4"}


def test_norm_eval_keeps_all_statistics() -> None:
    model = backbone(norm_eval=True).train()
    assert not any(each.training for each in model.modules() if isinstance(each, nn.BatchNorm2d))
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "P7"}, 'arch: there is no "P7". It is one of: P5, P6.'),
        (
            {"out_indices": (4, 2)},
            "out_indices: [4, 2]. Give stages from 0 (the stem) to 4, each once, in rising order.",
        ),
        ({"out_indices": (5,)}, "out_indices: [5]. Give stages from 0 (the stem) to 4, each once, in rising order."),
        ({"frozen_stages": 5}, "frozen_stages: 5. Give -1 (none) to 4 (all)."),
        ({"spp_kernel_sizes": (4,)}, "spp_kernel_sizes: [4]. Give odd numbers."),
        ({"widen_factor": 0.01}, "widen_factor: 0.01 leaves 0 channels. Give at least 0.04."),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        backbone(**options)
    assert str(error.value) == message
