"""A convolution that takes its batch norm in computes, and teaches, what the two compute one after the other."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from detcore.layers import BN, GN, ConvNormAct, SyncBN, conv_norm
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class Calls(TorchDispatchMode):
    """Which operators ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def pair(bias: bool = False, **options: int) -> tuple[nn.Conv2d, nn.Module]:
    torch.manual_seed(0)
    norm = BN(6, folded=True)
    for each in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(each)
    nn.init.uniform_(norm.running_var, 0.2, 2.0)
    return nn.Conv2d(4, 6, 3, bias=bias, **options), norm.eval()


def normalised(conv: nn.Module, norm: nn.Module, x: Tensor) -> tuple[Tensor, bool]:
    """The map, and whether a batch norm ran on it."""
    with Calls() as calls:
        out = conv_norm(conv, norm, x)
    return out, any("batch_norm" in name for name in calls.names)


def gradients(out: Tensor, x: Tensor, *modules: nn.Module) -> list[Tensor]:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return list(torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), [x, *parameters]))


@pytest.mark.parametrize("options", [{}, {"bias": True}, {"stride": 2, "padding": 1}, {"dilation": 2, "groups": 2}])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_fixed_batch_norm_within_the_convolution_is_the_same_function(
    options: dict[str, int], layout: torch.memory_format
) -> None:
    conv, norm = pair(**options)
    conv.to(memory_format=layout)
    x = torch.randn(2, 4, 16, 12).to(memory_format=layout).requires_grad_()
    out, ran = normalised(conv, norm, x)
    assert not ran
    assert out.is_contiguous(memory_format=layout)
    expected = norm(conv(x))
    torch.testing.assert_close(out, expected)
    for ours, theirs in zip(gradients(out, x, conv, norm), gradients(expected, x, conv, norm), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_norm_that_is_not_folded_stays_outside() -> None:
    conv, norm = pair()
    norm.folded = False
    out, ran = normalised(conv, norm, x := torch.randn(2, 4, 16, 12))
    assert ran
    assert torch.equal(out, norm(conv(x)))
    assert not getattr(BN(6), "folded", True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_frozen_norm_outside_the_convolution_is_torchs_and_keeps_no_map(layout: torch.memory_format) -> None:
    conv, norm = pair()
    norm.folded = False
    x = torch.randn(2, 4, 16, 12).to(memory_format=layout)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda t: t)
    norm.requires_grad_(False)
    with hooks:
        out, ran = normalised(conv, norm, x)
    assert not ran
    assert out.shape not in kept
    expected = norm(conv(x))
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    weigh = torch.randn(out.shape)
    for ours, theirs in zip(
        *(torch.autograd.grad((y * weigh).sum(), conv.weight) for y in (out, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_trained_convolution_keeps_no_second_weight_for_a_frozen_norm() -> None:
    """In training a frozen norm is computed behind it, and keeps nothing large; else within it."""
    conv, norm = pair()
    norm.requires_grad_(False)
    x = torch.randn(2, 4, 16, 12)
    kept: dict[tuple[int, ...], int] = {}

    def keep(each: Tensor) -> Tensor:
        kept[tuple(each.shape)] = each.data_ptr()
        return each

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        trained = conv_norm(conv, norm, x)
    assert kept[6, 4, 3, 3] == conv.weight.data_ptr()
    assert trained.shape not in kept
    with torch.no_grad(), Calls() as calls:
        within = conv_norm(conv, norm, x)
    assert calls.names.count("aten::addcmul") == 1  # the shift; no pass over the map
    torch.testing.assert_close(within, trained)


def test_a_trained_norm_outside_the_convolution_is_called() -> None:
    conv, norm = pair()
    norm.folded = False
    assert normalised(conv, norm, torch.randn(2, 4, 16, 12))[1]


def test_statistics_that_are_being_gathered_stay_outside() -> None:
    conv, norm = pair()
    out, ran = normalised(conv, norm.train(), x := torch.randn(2, 4, 16, 12))
    assert ran
    assert norm.num_batches_tracked == 1
    conv, again = pair()
    assert torch.equal(out, again.train()(conv(x)))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(6, affine=False), nn.BatchNorm2d(6, track_running_stats=False)])
def test_a_batch_norm_without_parameters_or_statistics_stays_outside(norm: nn.Module) -> None:
    norm.folded = True
    assert normalised(nn.Conv2d(4, 6, 3), norm.eval(), torch.randn(2, 4, 16, 12))[1]


def test_a_weight_larger_than_the_map_is_left_alone() -> None:
    conv, norm = pair(padding=1)
    assert normalised(conv, norm, torch.randn(1, 4, 6, 6))[1]  # 36 positions, 36 numbers per channel of the weight
    assert not normalised(conv, norm, torch.randn(1, 4, 6, 7))[1]


def test_convolutions_that_compute_more_than_conv2d_are_called() -> None:
    _, norm = pair()
    circular = nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular")
    reparametrised = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3))
    x = torch.randn(2, 4, 16, 12)
    for conv in (circular, reparametrised, nn.Sequential(nn.Conv2d(4, 6, 3), nn.Tanh())):
        out, ran = normalised(conv, norm, x)
        assert ran
        assert torch.equal(out, norm(conv(x)))


def test_half_and_double_precision_stay_outside() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        conv, norm = pair()
        assert normalised(conv.to(dtype), norm.to(dtype), torch.randn(2, 4, 16, 12, dtype=dtype))[1]


@pytest.mark.parametrize("which", [0, 1])
def test_a_module_with_a_hook_is_called(which: int) -> None:
    modules, seen = pair(), []
    modules[which].register_forward_hook(lambda *args: seen.append(True))
    assert normalised(*modules, torch.randn(2, 4, 16, 12))[1]
    assert seen == [True]


def test_one_map_fewer_is_kept_for_the_backward_pass() -> None:
    conv, norm = pair()
    x, kept = torch.randn(2, 4, 16, 12), []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        conv_norm(conv, norm, x)
        assert (2, 6, 14, 10) not in kept
        norm(conv(x))
        assert (2, 6, 14, 10) in kept


@pytest.mark.parametrize(
    "norm", [None, BN, partial(BN, frozen=True), partial(BN, folded=True), SyncBN, partial(GN, num_groups=2)]
)
def test_a_block_is_its_three_layers_one_after_the_other(norm: object) -> None:
    block = ConvNormAct(4, 6, 3, norm=norm).eval()
    x = torch.randn(2, 4, 16, 12)
    expected = block.conv(x) if block.norm is None else block.norm(block.conv(x))
    torch.testing.assert_close(block(x), expected.relu())


def test_a_block_compiles_with_its_norm_inside() -> None:
    block = ConvNormAct(4, 6, 3, norm=partial(BN, folded=True)).eval()
    x = torch.randn(2, 4, 16, 12)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x))
