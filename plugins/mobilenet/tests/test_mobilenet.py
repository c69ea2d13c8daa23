"""MobileNetV2 and V3: torchvision's names and maps, what they declare, freeze and refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from detcore.errors import ConfigError
from detcore.testing import check_backbone
from detcore_mobilenet.mobilenet import MobileNet, rounded
from detcore_mobilenet.v2 import MobileNetV2
from detcore_mobilenet.v3 import MobileNetV3
from torch import Tensor, nn

CASES: list[tuple[str, type[MobileNet], dict[str, Any], tuple[int, ...], tuple[int, ...]]] = [
    ("mobilenet_v2", MobileNetV2, {}, (3, 6, 13, 18), (24, 32, 96, 1280)),
    ("mobilenet_v2", MobileNetV2, {"width": 0.35}, (3, 6, 13, 18), (8, 16, 32, 1280)),
    ("mobilenet_v2", MobileNetV2, {"width": 1.4}, (3, 6, 13, 18), (32, 48, 136, 1792)),
    ("mobilenet_v3_large", MobileNetV3, {}, (3, 6, 12, 16), (24, 40, 112, 960)),
    ("mobilenet_v3_small", MobileNetV3, {"size": "small"}, (1, 3, 8, 12), (16, 24, 48, 576)),
    ("mobilenet_v3_small", MobileNetV3, {"size": "small", "width": 0.75}, (1, 3, 8, 12), (16, 24, 40, 432)),
]
"""torchvision's model, ours, its options, the numbers of torchvision's layers that are our maps, their channels."""


@pytest.mark.parametrize(("name", "make", "options", "layers", "channels"), CASES)
def test_torchvisions_weights_give_torchvisions_maps(
    name: str, make: type[MobileNet], options: dict[str, Any], layers: tuple[int, ...], channels: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)(weights=None, width_mult=options.get("width", 1.0)).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.get_buffer("running_mean"), -0.5, 0.5)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    ours = make(**options).eval()
    result = ours.load_state_dict(reference.state_dict(), strict=False)
    assert result.missing_keys == []
    assert {each.split(".")[0] for each in result.unexpected_keys} == {"classifier"}
    seen: list[Tensor] = []
    for layer in layers:
        reference.features[layer].register_forward_hook(lambda module, args, output: seen.append(output))
    images = torch.rand(1, 3, 75, 101)
    with torch.no_grad():
        reference(images)
        maps = ours(images)
    assert (ours.out_channels, ours.strides) == (channels, (4, 8, 16, 32))
    for mine, theirs in zip(maps, seen, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    mine, theirs = (each.features[0][1] for each in (ours, reference))
    assert (mine.eps, mine.momentum) == (theirs.eps, theirs.momentum)


@pytest.mark.parametrize("make", [MobileNetV2, MobileNetV3])
@pytest.mark.parametrize("options", [{}, {"out_indices": (1, 2), "frozen_stages": 1, "norm_eval": True}])
def test_it_is_a_backbone(make: type[MobileNet], options: dict[str, Any]) -> None:
    check_backbone(make, width=0.1, **options)


def test_layers_after_the_last_map_are_not_built() -> None:
    backbone = MobileNetV2(width=0.1, out_indices=(0, 2))
    assert (len(backbone.features), backbone.strides) == (14, (4, 16))


@pytest.mark.parametrize(("frozen_stages", "frozen"), [(-1, 0), (0, 1), (1, 4), (4, 19)])
def test_frozen_layers_do_not_train(frozen_stages: int, frozen: int) -> None:
    backbone = MobileNetV2(width=0.1, frozen_stages=frozen_stages).eval().train()
    still = [not any(each.requires_grad for each in layer.parameters()) for layer in backbone.features]
    assert still == [at < frozen for at in range(19)]
    assert [layer.training for layer in backbone.features] == [at >= frozen for at in range(19)]


@pytest.mark.parametrize("norm_eval", [True, False])
def test_statistics_change_in_training_only_without_norm_eval(norm_eval: bool) -> None:
    backbone = MobileNetV3(size="small", width=0.1, norm_eval=norm_eval).eval().train()
    backbone(torch.rand(2, 3, 64, 64))
    norms = [each for each in backbone.modules() if isinstance(each, nn.BatchNorm2d)]
    assert [bool(each.get_buffer("running_mean").any()) for each in norms] == [not norm_eval] * len(norms)


def test_channels_are_multiples_of_eight_and_not_much_fewer() -> None:
    assert [rounded(each) for each in (1, 11.2, 12, 18, 24, 22.4, 33.6)] == [8, 16, 16, 24, 24, 24, 32]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (MobileNetV2, {"out_indices": (2, 4)},
         "out_indices: [2, 4]. Give maps from 0 (stride 4) to 3 (stride 32), each once, in rising order."),
        (MobileNetV3, {"frozen_stages": 5}, "frozen_stages: 5. Give -1 (none) to 4 (all)."),
        (MobileNetV3, {"size": "tiny"}, "size: there is no 'tiny' MobileNetV3. Give \"small\" or \"large\"."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(make: type[MobileNet], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**options)
    assert str(caught.value) == message
