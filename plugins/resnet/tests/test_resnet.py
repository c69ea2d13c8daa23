"""what it declares, what stays frozen, and that torchvision's weights give torchvision's maps."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from detcore.errors import ConfigError
from detcore.interfaces import Backbone
from detcore.layers import BN, GN
from detcore_resnet.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn


def conforms(backbone: Backbone) -> None:
    """Maps are as declared, for odd sizes too."""
    for height, width in ((64, 96), (97, 131)):
        with torch.no_grad():
            maps = backbone(torch.rand(2, 3, height, width))
        sizes = [(2, channels, -(-height // stride), -(-width // stride))
                 for channels, stride in zip(backbone.out_channels, backbone.strides, strict=True)]  # fmt: skip
        assert [tuple(each.shape) for each in maps] == sizes


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_depth_conforms(depth: int) -> None:
    conforms(ResNet(depth=depth, width=8))


@pytest.mark.parametrize(
    ("options", "channels", "strides"),
    [
        ({"depth": 18}, (64, 128, 256, 512), (4, 8, 16, 32)),
        ({"depth": 50}, (256, 512, 1024, 2048), (4, 8, 16, 32)),
        ({"depth": 50, "style": "caffe", "out_indices": (1, 2, 3)}, (512, 1024, 2048), (8, 16, 32)),
        ({"depth": 50, "out_indices": [2]}, (1024,), (16,)),
        ({"depth": 18, "width": 8, "strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}, (8, 16, 32, 64), (4, 8, 8, 8)),
        ({"depth": 50, "width": 16, "groups": 4, "base_width": 8, "norm": partial(GN, num_groups=2)},
         (64, 128, 256, 512), (4, 8, 16, 32)),
    ],
)  # fmt: skip
def test_maps_are_as_declared(options: dict[str, Any], channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    backbone = ResNet(**options)
    assert backbone.out_channels == channels
    assert backbone.strides == strides
    conforms(backbone)


def test_stages_after_the_last_that_is_returned_are_not_built() -> None:
    names = {name.split(".")[0] for name, _ in ResNet(depth=18, width=8, out_indices=(1,)).named_parameters()}
    assert names == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        ("resnet18", {"depth": 18}),
        ("resnet34", {"depth": 34}),
        ("resnet50", {"depth": 50}),
        ("resnext50_32x4d", {"depth": 50, "groups": 32, "base_width": 4}),
        ("wide_resnet50_2", {"depth": 50, "base_width": 128}),
    ],
)
def test_torchvisions_weights_give_torchvisions_maps(factory: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, factory)(weights=None).eval()
    for name, buffer in reference.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    ours = ResNet(**options).eval()
    result = ours.load_state_dict(reference.state_dict(), strict=False)
    assert (result.missing_keys, result.unexpected_keys) == ([], ["fc.weight", "fc.bias"])
    seen: list[torch.Tensor] = []
    for stage in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        stage.register_forward_hook(lambda module, args, output: seen.append(output))
    images = torch.rand(1, 3, 75, 101)
    with torch.no_grad():
        reference(images)
        maps = ours(images)
    for mine, theirs in zip(maps, seen, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_the_stride_is_on_the_convolution_that_the_style_names() -> None:
    pytorch = Bottleneck(8, 4, stride=2)
    caffe = Bottleneck(8, 4, stride=2, style="caffe")
    assert (pytorch.conv1.stride, pytorch.conv2.stride) == ((1, 1), (2, 2))
    assert (caffe.conv1.stride, caffe.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    ("frozen_stages", "frozen"),
    [(-1, []), (0, ["bn1", "conv1"]), (1, ["bn1", "conv1", "layer1"]), (2, ["bn1", "conv1", "layer1", "layer2"])],
)
def test_frozen_stages_do_not_train(frozen_stages: int, frozen: list[str]) -> None:
    torch.manual_seed(0)
    backbone = ResNet(depth=18, width=8, frozen_stages=frozen_stages, norm_eval=False, zero_init_residual=False)
    backbone.eval().train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    optimizer = torch.optim.SGD([each for each in backbone.parameters() if each.requires_grad], lr=0.1)
    sum(each.square().mean() for each in backbone(torch.rand(2, 3, 64, 64))).backward()
    optimizer.step()
    after = backbone.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert sorted({name.split(".")[0] for name in before} - changed) == frozen
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (name.split(".")[0] not in frozen)


@pytest.mark.parametrize("norm_eval", [True, False])
def test_statistics_change_in_training_only_without_norm_eval(norm_eval: bool) -> None:
    backbone = ResNet(depth=18, width=8, norm_eval=norm_eval)
    backbone.eval()
    assert not any(module.training for module in backbone.modules())
    backbone.train()
    backbone(torch.rand(2, 3, 64, 64))
    moved = [not torch.equal(module.running_mean, torch.zeros_like(module.running_mean))
             for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]  # fmt: skip
    assert moved == [not norm_eval] * len(moved)


def test_frozen_affines_do_not_train() -> None:
    backbone = ResNet(depth=18, width=8, norm=partial(BN, frozen=True))
    trained = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    assert all("conv" in name or "downsample.0" in name for name in trained)
    assert len(trained) == 20


def test_convolutions_are_drawn_after_he_with_the_fan_out() -> None:
    torch.manual_seed(0)
    weight = ResNet(depth=18).get_parameter("layer4.1.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize("depth", [18, 50])
def test_a_block_starts_as_its_shortcut(depth: int) -> None:
    x = torch.rand(1, 8 * (1 if depth == 18 else 4), 8, 8)
    with torch.no_grad():
        kept = ResNet(depth=depth, width=8).get_submodule("layer1.1")(x)
        moved = ResNet(depth=depth, width=8, zero_init_residual=False).get_submodule("layer1.1")(x)
    torch.testing.assert_close(kept, x)
    assert not torch.allclose(moved, x)


def test_another_convolution_goes_into_the_stages_it_is_for() -> None:
    class Marked(nn.Conv2d):
        pass

    def marked(backbone: ResNet) -> set[str]:
        return {name for name, module in backbone.named_modules() if isinstance(module, Marked)}

    stages = {
        "layer3.0.conv2",
        "layer3.1.conv2",
        "layer3.2.conv2",
        "layer3.3.conv2",
        "layer3.4.conv2",
        "layer3.5.conv2",
    }
    assert marked(ResNet(depth=50, width=8, conv3x3=Marked, conv3x3_stages=(2,))) == stages
    everywhere = marked(ResNet(depth=50, width=8, conv=Marked))
    assert len(everywhere) == 53


def test_gradients_reach_every_parameter() -> None:
    backbone = ResNet(depth=18, width=8)
    sum(each.sum() for each in backbone(torch.rand(2, 3, 64, 64))).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_blocks_have_the_shapes_they_say() -> None:
    x = torch.rand(1, 6, 9, 11)
    assert BasicBlock(6, 10, stride=2)(x).shape == (1, 10, 5, 6)
    assert Bottleneck(6, 10, stride=2, dilation=2)(x).shape == (1, 40, 5, 6)
    assert BasicBlock(6, 6).downsample is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 51}, "depth: there is no ResNet-51. Depths are 18, 34, 50, 101, 152."),
        ({"strides": (1, 2)},
         "dilations: 2 strides and 4 dilations. Each of the up to 4 stages has one stride and one dilation."),
        ({"out_indices": (1, 4)},
         "out_indices: [1, 4]. Give stages from 0 to 3, each once, in rising order."),
        ({"out_indices": (2, 1)},
         "out_indices: [2, 1]. Give stages from 0 to 3, each once, in rising order."),
        ({"out_indices": ()}, "out_indices: []. Give stages from 0 to 3, each once, in rising order."),
        ({"frozen_stages": 5}, "frozen_stages: 5. Give -1 (none) to 4 (all)."),
        ({"depth": 18, "groups": 32},
         "groups: 32 groups of base width 64 in a ResNet-18. "
         "Only bottlenecks (depth 50 and more) have groups."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNet(**options)
    assert str(caught.value) == message
