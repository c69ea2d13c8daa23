"""ShuffleNetV2: torchvision's names and maps, what it declares, freezes and refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from detcore.errors import ConfigError
from detcore.testing import check_backbone
from detcore_shufflenet.shufflenet import CHANNELS, ShuffleNetV2
from torch import Tensor, nn


@pytest.mark.parametrize("width", CHANNELS)
def test_torchvisions_weights_give_torchvisions_maps(width: float) -> None:
    torch.manual_seed(0)
    name = f"shufflenet_v2_x{str(width).replace('.', '_')}"
    reference = getattr(torchvision.models, name)(weights=None).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.get_buffer("running_mean"), -0.5, 0.5)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    ours = ShuffleNetV2(width=width).eval()
    result = ours.load_state_dict(reference.state_dict(), strict=False)
    assert (result.missing_keys, result.unexpected_keys) == ([], ["fc.weight", "fc.bias"])
    seen: list[Tensor] = []
    for layer in (reference.maxpool, reference.stage2, reference.stage3, reference.conv5):
        layer.register_forward_hook(lambda module, args, output: seen.append(output))
    images = torch.rand(1, 3, 75, 101)
    with torch.no_grad():
        reference(images)
        maps = ours(images)
    assert ours.strides == (4, 8, 16, 32)
    assert ours.out_channels == tuple(each.shape[1] for each in seen)
    for mine, theirs in zip(maps, seen, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"out_indices": (1, 2), "frozen_stages": 1, "norm_eval": True},
        {"out_indices": (0, 3), "frozen_stages": 0},
    ],
)
def test_it_is_a_backbone(options: dict[str, Any]) -> None:
    check_backbone(ShuffleNetV2, width=0.5, **options)


def test_stages_after_the_last_map_are_not_built() -> None:
    backbone = ShuffleNetV2(width=0.5, out_indices=(0, 1))
    assert [name for name, _ in backbone.named_children()] == ["conv1", "maxpool", "stage2"]
    assert (backbone.out_channels, backbone.strides) == ((24, 48), (4, 8))


@pytest.mark.parametrize(
    ("frozen_stages", "frozen"), [(-1, set()), (0, {"conv1"}), (3, {"conv1", "stage2", "stage3", "stage4"})]
)
def test_frozen_stages_do_not_train(frozen_stages: int, frozen: set[str]) -> None:
    backbone = ShuffleNetV2(width=0.5, frozen_stages=frozen_stages).eval().train()
    still = {name.split(".")[0] for name, each in backbone.named_parameters() if not each.requires_grad}
    assert still == frozen
    assert all(backbone.get_submodule(name).training == (name not in frozen) for name in ("conv1", "stage2", "conv5"))


@pytest.mark.parametrize("norm_eval", [True, False])
def test_statistics_change_in_training_only_without_norm_eval(norm_eval: bool) -> None:
    backbone = ShuffleNetV2(width=0.5, norm_eval=norm_eval).eval().train()
    backbone(torch.rand(2, 3, 64, 64))
    norms = [each for each in backbone.modules() if isinstance(each, nn.BatchNorm2d)]
    assert [bool(each.get_buffer("running_mean").any()) for each in norms] == [not norm_eval] * len(norms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.7}, "width: there is no ShuffleNetV2 x0.7. Widths are 0.5, 1.0, 1.5, 2.0."),
        ({"out_indices": (3, 2)},
         "out_indices: [3, 2]. Give maps from 0 (stride 4) to 3 (stride 32), each once, in rising order."),
        ({"frozen_stages": 4}, "frozen_stages: 4. Give -1 (none) to 3 (all stages)."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ShuffleNetV2(**options)
    assert str(caught.value) == message
