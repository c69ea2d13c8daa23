"""timm's models as backbones: declared right, laid out right, refused with a message, never a download unasked."""

from __future__ import annotations

import pickle
import re
import socket
from typing import Any, get_type_hints

import huggingface_hub
import pytest
import timm
import torch
from detcore.errors import CheckpointError, ConfigError
from detcore.interfaces import Backbone
from detcore.loading import load_state
from detcore_timm import models
from detcore_timm.weights import download
from torch import nn


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return getattr(models, name)(**options)


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
        ("mobilenetv3_small_100", (16, 24, 48, 576)),
        ("convnext_atto", (40, 80, 160, 320)),  # rounds sizes down by itself
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768)),  # made for 224x224, NHWC
        ("hrnet_w18_small", (128, 256, 512, 1024)),  # cannot read odd sizes by itself
        ("efficientnet_b0", (24, 40, 112, 320)),
        ("pvt_v2_b0", (32, 64, 160, 256)),
    ],
)
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
    backbone = make("mobilenetv3_small_100", out_indices=out_indices)
    assert backbone.strides == strides
    conforms(backbone)


def test_one_map_of_a_vit_is_a_pyramid() -> None:
    backbone = make("vit_tiny_patch16_224", out_indices=[11], options={"dynamic_img_size": True, "depth": 12})
    assert (backbone.out_channels, backbone.strides) == ((192,), (16,))
    conforms(backbone)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_maps_are_timms_channels_first(name: str) -> None:
    backbone = make(name).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        ours, theirs = backbone(images), backbone.model(images)[-4:]
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its.permute(0, 3, 1, 2) if name.startswith("swin") else its)


def test_a_model_of_one_size_works_at_that_size() -> None:
    backbone = make("maxvit_pico_rw_256", options={"img_size": [128, 128]})
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 128, 128))
    assert [each.shape[2] for each in maps] == [32, 16, 8, 4]


def test_options_reach_timm() -> None:
    assert sum(p.numel() for p in make("resnet18", options={"act_layer": "silu"}).parameters()) == 11_176_512
    assert any(isinstance(module, nn.SiLU) for module in make("resnet18", options={"act_layer": "silu"}).modules())


def test_what_is_frozen_does_not_train() -> None:
    backbone = make("mobilenetv3_small_100", frozen=True).eval().train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize("norm_eval", [True, False])
def test_statistics_change_in_training_only_without_norm_eval(norm_eval: bool) -> None:
    backbone = make("resnet18", norm_eval=norm_eval).eval().train()
    before = backbone.model.bn1.running_mean.clone()
    backbone(torch.rand(2, 3, 64, 64))
    assert torch.equal(backbone.model.bn1.running_mean, before) == norm_eval


def test_making_a_model_leaves_its_statistics_alone() -> None:
    assert not make("resnet18").model.bn1.running_mean.any()


def test_gradients_reach_every_parameter() -> None:
    backbone = make("mobilenetv3_small_100")
    sum(each.sum() for each in backbone(torch.rand(2, 3, 50, 70))).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_weights_are_loaded_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        timm.models._builder, "load_pretrained", lambda model, **options: asked.append(type(model).__name__)
    )
    make("resnet18")
    assert asked == []
    make("resnet18", pretrained=True)
    assert asked == ["ResNet"]


def test_weights_by_name_are_those_of_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(model: nn.Module, **options: Any) -> None:
        model.get_parameter("conv1.weight").data.fill_(3.0)

    monkeypatch.setattr(timm.models._builder, "load_pretrained", fill)
    backbone = make("resnet18", out_indices=(2, 3, 4))
    report = load_state(backbone, download("resnet18"), "timm://resnet18")
    assert report.complete
    assert backbone.model.conv1.weight.mean() == 3
    assert set(download("resnet18.a1_in1k")) == set(backbone.state_dict())


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("resnet19", ConfigError, 'timm://resnet19: timm * has no model "resnet19". Did you mean "resnet1*"?'),
        (
            "resnet18.none",
            CheckpointError,
            "timm://resnet18.none: cannot be had: RuntimeError: Invalid pretrained tag *",
        ),
        ("resnet18", CheckpointError, "timm://resnet18: cannot be had: *a test asked for the network*"),
    ],
)
def test_weights_that_cannot_be_had_are_said_in_one_line(
    address: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(error) as caught:
        download(address)
    assert re.fullmatch(".*".join(map(re.escape, message.split("*"))), str(caught.value))


def test_the_namespace_has_timms_models_and_nothing_else() -> None:
    names = dir(models)
    assert set(names) == set(timm.list_models())
    assert issubclass(models.resnet18, Backbone)
    assert models.resnet18 is models.resnet18
    assert pickle.loads(pickle.dumps(models.resnet18)) is models.resnet18
    for name in ("resnet19", "Any", "_private"):
        with pytest.raises(AttributeError):
            getattr(models, name)


def test_hints_resolve() -> None:
    assert set(get_type_hints(models.resnet18.__init__)) == {
        "out_indices", "pretrained", "frozen", "norm_eval", "options", "return",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_tiny_patch16_224", {},
         "out_indices: its maps have the strides 16, 16, 16: no pyramid. "
         "Choose a convolutional or hierarchical model, or one map with out_indices."),
        ("maxvit_pico_rw_256", {},
         "options: an image of 64x96 pixels does not pass: "
         "AssertionError: width (12) must be divisible by window (8). "
         "If it is made for one size, give that: options = {img_size = [640, 640]}."),
        ("resnet18", {"options": {"in_chans": 4, "pretrained": True}},
         "options: in_chans, pretrained cannot be given here. "
         "Images have 3 channels; out_indices and pretrained stand beside options."),
        ("resnet18", {"options": {"depth": 3}},
         "timm * cannot make resnet18: TypeError: *unexpected keyword argument 'depth'"),
        ("resnet18", {"out_indices": (7,)}, "timm * cannot make resnet18: IndexError: *"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(name, **options)
    assert re.fullmatch(".*".join(map(re.escape, message.split("*"))), str(caught.value))


def test_maps_that_do_not_lie_on_the_image_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def shrunk(*args: Any, **options: Any) -> nn.Module:
        model = create(*args, **options)
        model.conv1.padding = (0, 0)
        return model

    monkeypatch.setattr(timm, "create_model", shrunk)
    with pytest.raises(ConfigError, match=r"64x96 pixels gives maps of .* choose another model\.$"):
        make("resnet18", options={})
