"""torchvision's models keep the contract of backbones."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detcore.testing import check_backbone
from detcore_torchvision_models import backbones


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5"])
def test_a_model_is_a_backbone(name: str) -> None:
    check_backbone(getattr(backbones, name))


@pytest.mark.parametrize("made", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_drops_out_in_training_and_trains_what_it_trained(made: Callable[[Any], Any]) -> None:
    model = backbones.efficientnet_b0(out_indices=(-1,), options={"stochastic_depth_prob": 0.5}).eval()
    next(model.parameters()).requires_grad_(False)
    before = torch.get_rng_state()
    twin = made(model)
    assert torch.equal(torch.get_rng_state(), before)
    trained = [[each.requires_grad for each in one.parameters()] for one in (model, twin)]
    assert trained[0] == trained[1]
    assert model.training is twin.training is False
    outputs, images = [], torch.rand(2, 3, 64, 64)
    for one, seed in ((model, 3), (twin, 3), (twin, 4)):
        torch.manual_seed(seed)
        outputs.append(one.train()(images)[-1])
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-2)


def test_a_model_of_which_only_shallow_maps_are_wanted_is_a_backbone() -> None:
    check_backbone(backbones.mobilenet_v3_small, out_indices=(1, 2))
