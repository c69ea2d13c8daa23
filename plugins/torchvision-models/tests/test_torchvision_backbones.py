"""torchvision's models as backbones: maps found, declared right, refused with a message, never a download unasked."""

from __future__ import annotations

import pickle
import re
import socket
from typing import Any, get_type_hints

import pytest
import torch
import torchvision
from detcore.errors import CheckpointError, ConfigError
from detcore.interfaces import Backbone
from detcore_torchvision_models import backbones
from detcore_torchvision_models.backbone import find_levels
from detcore_torchvision_models.weights import download
from torch import nn


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return getattr(backbones, name)(**options)


def conforms(backbone: Backbone) -> None:
    """Maps are as declared, for odd sizes too."""
    for height, width in ((64, 96), (97, 131)):
        with torch.no_grad():
            maps = backbone(torch.rand(2, 3, height, width))
        sizes = [(2, channels, -(-height // stride), -(-width // stride))
                 for channels, stride in zip(backbone.out_channels, backbone.strides, strict=True)]  # fmt: skip
        assert [tuple(each.shape) for each in maps] == sizes


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("mobilenet_v3_small", (16, 24, 48, 576)),
        ("regnet_y_400mf", (48, 104, 208, 440)),
        ("efficientnet_b0", (24, 40, 112, 1280)),
        ("convnext_tiny", (96, 192, 384, 768)),  # rounds sizes down by itself
        ("swin_t", (96, 192, 384, 768)),  # NHWC
        ("densenet121", (256, 512, 1024, 1024)),
        ("shufflenet_v2_x0_5", (24, 48, 96, 1024)),
        ("googlenet", (192, 480, 832, 1024)),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_maps_are_as_declared(name: str, channels: tuple[int, ...]) -> None:
    backbone = make(name)
    assert backbone.out_channels == channels
    assert backbone.strides == (4, 8, 16, 32)
    assert backbone.training
    conforms(backbone)


@pytest.mark.parametrize(
    ("out_indices", "strides"), [((0, 1, 2), (2, 4, 8)), ((2, 4), (8, 32)), ([-2, -1], (16, 32)), ((3,), (16,))]
)
def test_out_indices_choose_the_maps(out_indices: Any, strides: tuple[int, ...]) -> None:
    backbone = make("mobilenet_v3_small", out_indices=out_indices)
    assert backbone.strides == strides
    conforms(backbone)


def test_maps_are_torchvisions_at_the_end_of_each_stage() -> None:
    reference = torchvision.models.resnet18(weights=None).eval()
    seen: list[torch.Tensor] = []
    for stage in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        stage.register_forward_hook(lambda module, args, output: seen.append(output))
    ours = make("resnet18").eval()
    state = {name: value for name, value in reference.state_dict().items() if not name.startswith("fc.")}
    ours.model.load_state_dict(state)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        reference(images)
        for mine, theirs in zip(ours(images), seen, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_channels_last_maps_are_torchvisions_channels_first() -> None:
    backbone = make("swin_t").eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        ours, theirs = backbone(images), list(backbone.model(images).values())
    torch.testing.assert_close(ours[0], theirs[0].permute(0, 3, 1, 2))
    torch.testing.assert_close(ours[3], theirs[3])


def test_a_model_of_one_size_works_at_that_size() -> None:
    backbone = make("maxvit_t", options={"input_size": [224, 224]})
    assert (backbone.out_channels, backbone.strides) == ((64, 128, 256, 512), (4, 8, 16, 32))
    with torch.no_grad():
        assert [each.shape[2:] for each in backbone(torch.rand(1, 3, 224, 224))] == [
            (56, 56),
            (28, 28),
            (14, 14),
            (7, 7),
        ]


def test_what_is_frozen_does_not_train() -> None:
    backbone = make("mobilenet_v3_small", frozen=True).eval().train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize("norm_eval", [True, False])
def test_statistics_change_in_training_only_without_norm_eval(norm_eval: bool) -> None:
    backbone = make("resnet18", norm_eval=norm_eval).eval().train()
    assert not backbone.model.bn1.running_mean.any()
    backbone(torch.rand(2, 3, 64, 64))
    assert bool(backbone.model.bn1.running_mean.any()) != norm_eval


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "googlenet"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradients_reach_every_parameter(name: str) -> None:
    backbone = make(name)
    sum(each.sum() for each in backbone(torch.rand(2, 3, 70, 90))).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_tokens_are_no_pyramid() -> None:
    vit = torchvision.models.VisionTransformer(64, 16, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8)
    assert find_levels(vit, (64, 64)) == []
    assert vit.training


def test_weights_are_downloaded_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    state = torchvision.models.resnet18(weights=None).state_dict()
    state["conv1.weight"].fill_(3.0)

    def load(url: str, **options: Any) -> dict[str, torch.Tensor]:
        asked.append(url)
        return state

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", load)
    make("resnet18")
    assert asked == []
    assert make("resnet18", pretrained=True).model.conv1.weight.mean() == 3
    assert download("resnet18/IMAGENET1K_V1") is state
    assert [url.rpartition("/")[2] for url in asked] == ["resnet18-f37072fd.pth"] * 2


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("resnet19", ConfigError, 'torchvision://resnet19: torchvision has no model "resnet19". Did you mean "resnet1*"?'),
        ("resnet50/V3", ConfigError,
         'torchvision://resnet50/V3: torchvision\'s resnet50 has no weights "V3". It has: IMAGENET1K_V1, IMAGENET1K_V2.'),
        ("resnet18", CheckpointError,
         "torchvision://resnet18: https:*resnet18-f37072fd.pth cannot be downloaded: *a test asked for the network*. Put it at *."),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_had_are_said_in_one_line(
    address: str, error: type[Exception], message: str, tmp_path: Any
) -> None:
    torch.hub.set_dir(str(tmp_path))
    try:
        with pytest.raises(error) as caught:
            download(address)
    finally:
        torch.hub._hub_dir = None
    assert re.fullmatch(".*".join(map(re.escape, message.split("*"))), str(caught.value))


def test_the_namespace_has_torchvisions_models_and_nothing_else() -> None:
    assert {"resnet18", "regnet_y_400mf", "convnext_tiny"} < set(dir(backbones))
    assert "fcos_resnet50_fpn" not in dir(backbones)
    assert issubclass(backbones.resnet18, Backbone)
    assert pickle.loads(pickle.dumps(backbones.resnet18)) is backbones.resnet18
    for name in ("resnet19", "Any", "_private"):
        with pytest.raises(AttributeError):
            getattr(backbones, name)


def test_hints_resolve() -> None:
    assert "out_indices" in get_type_hints(backbones.resnet18.__init__)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alexnet", {},
         "alexnet has no maps that lie on the image: no pyramid. Choose another model."),
        ("vit_b_16", {"options": {"num_layers": 1}}, "torchvision * cannot make vit_b_16: TypeError: *"),
        ("maxvit_t", {},
         "options: a small image does not pass: *. "
         "If it is made for one size, give that: options = {input_size = [448, 448]}."),
        ("resnet18", {"out_indices": (1, 5)},
         "out_indices: [1, 5]. Give rising numbers from 0 to 4, for the strides 2, 4, 8, 16, 32."),
        ("resnet18", {"options": {"weights": "DEFAULT"}},
         "options: weights cannot be given here. Give pretrained = true beside options."),
        ("resnet18", {"options": {"depth": 3}},
         "torchvision * cannot make resnet18: TypeError: *unexpected keyword argument 'depth'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(name, **options)
    assert re.fullmatch(".*".join(map(re.escape, message.split("*"))), str(caught.value)), caught.value


def test_the_mode_of_a_model_survives_the_search() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d(2))
    levels = find_levels(model, (64, 96))
    assert [(level.name, level.channels, level.stride) for level in levels] == [("1", 4, 2), ("2", 4, 4)]
    assert model.training
    assert not model[1].running_mean.any()
    assert not model[0]._forward_hooks
