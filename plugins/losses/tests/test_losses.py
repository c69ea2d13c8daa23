"""Losses against numbers made by hand, torchvision, and finite differences."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.ops as tv
from detcore.errors import ConfigError
from detcore.interfaces import Loss
from detcore_losses import boxes as box_losses
from detcore_losses.boxes import BalancedL1Loss, CIoULoss, DIoULoss, GIoULoss, IoULoss, L1Loss, MSELoss, SmoothL1Loss
from detcore_losses.classification import CrossEntropyLoss, FocalLoss
from detcore_losses.plugin import detcore_components
from detcore_losses.quality import QualityFocalLoss, VarifocalLoss
from torch import Tensor
from torch.nn import functional as F

EVERY: list[Callable[..., Loss]] = [
    FocalLoss, CrossEntropyLoss, IoULoss, GIoULoss, DIoULoss, CIoULoss, L1Loss, SmoothL1Loss, MSELoss,
    BalancedL1Loss, QualityFocalLoss, VarifocalLoss
]  # fmt: skip
OF_THEIR_OWN = ["DistributionFocalLoss", "GHMC", "GHMR", "DiceLoss"]
"""Losses of other shapes or another normaliser, with tests of their own."""
OF_CLASSES: list[Callable[..., Loss]] = [FocalLoss, CrossEntropyLoss, QualityFocalLoss, VarifocalLoss]
OF_BOXES: list[Callable[..., Loss]] = [IoULoss, GIoULoss, DIoULoss, CIoULoss]


def random_boxes(count: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 50
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40 + 5
    return torch.cat([corner, corner + size], 1).to(dtype)


def inputs(make: Callable[..., Loss], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    if make in OF_CLASSES:
        return torch.linspace(-2, 3, 24, dtype=dtype).reshape(8, 3).cos() * 2, torch.tensor([0, 1, 2, -1] * 2)
    return random_boxes(8, 1, dtype), random_boxes(8, 2, dtype)


def number(text: Tensor) -> float:
    return float(text.detach())


# ---------------------------------------------------------------------------------------------------- what they share


def test_every_component_is_a_loss_of_its_name() -> None:
    for component in detcore_components():
        module, name = component.target.split(":")
        assert name == component.name
        assert issubclass(getattr(importlib.import_module(module), name), Loss)
    names = [component.name for component in detcore_components()]
    assert sorted(names) == sorted([*(make.__name__ for make in EVERY), *OF_THEIR_OWN])


@pytest.mark.parametrize("make", EVERY)
def test_reductions(make: Callable[..., Loss]) -> None:
    input, target = inputs(make)
    each = make(reduction="none")(input, target)
    assert each.shape[0] == 8
    torch.testing.assert_close(make()(input, target), each.mean())
    torch.testing.assert_close(make(reduction="sum")(input, target), each.sum())
    torch.testing.assert_close(make(loss_weight=3.0)(input, target), 3 * each.mean())
    torch.testing.assert_close(make()(input, target, None, torch.tensor(7.0)), each.sum() / 7)
    torch.testing.assert_close(make(reduction="none")(input, target, None, 7.0), each)


@pytest.mark.parametrize("make", EVERY)
def test_a_weight_per_row_multiplies_before_the_reduction(make: Callable[..., Loss]) -> None:
    input, target = inputs(make)
    weight = torch.tensor([0.0, 1, 2, 0, 0, 0, 0.5, 0])
    each = make(reduction="none")(input, target)
    rows = each.reshape(8, -1).sum(1)
    torch.testing.assert_close(make(reduction="sum")(input, target, weight), (rows * weight).sum())
    torch.testing.assert_close(make()(input, target, weight), (rows * weight).sum() / each.numel())


@pytest.mark.parametrize("make", EVERY)
def test_a_sum_does_not_take_a_normaliser(make: Callable[..., Loss]) -> None:
    with pytest.raises(ConfigError, match=r'reduction: "sum" in a place that divides .* Use "mean" or "none"'):
        make(reduction="sum")(*inputs(make), None, 4.0)


def test_an_unknown_reduction_or_mode_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r'reduction: "avg" is not known\. It is one of: mean, sum, none'):
        L1Loss(reduction="avg")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'mode: "cubic" is not known\. It is one of: linear, square, log'):
        IoULoss(mode="cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", EVERY)
def test_a_normaliser_of_zero_and_no_rows_give_a_finite_loss_with_gradient(make: Callable[..., Loss]) -> None:
    input, target = inputs(make)
    nothing = make()(input, target, torch.zeros(8), torch.tensor(0.0))
    assert number(nothing) == 0
    empty = input[:0].requires_grad_()
    loss = make()(empty, target[:0])
    loss.backward()
    assert number(loss) == 0
    assert empty.grad is not None


@pytest.mark.parametrize("make", EVERY)
def test_half_precision_is_taken_to_float32(make: Callable[..., Loss]) -> None:
    input, target = inputs(make)
    loss = make()(input.bfloat16(), target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, make()(input.bfloat16().float(), target))


@pytest.mark.parametrize("make", EVERY)
def test_gradients_are_those_of_finite_differences(make: Callable[..., Loss]) -> None:
    input, target = inputs(make, torch.float64)
    weight = torch.linspace(0, 2, 8, dtype=torch.float64)
    if make is CIoULoss:  # the trade-off is a constant to the gradient (Zheng et al. 2020), so it is not checked here
        target[:, :2], target[:, 2:] = input[:, :2] + 30, input[:, 2:] + 30
    torch.autograd.gradcheck(lambda x: make()(x, target, weight, 3.0), input.requires_grad_())


# ---------------------------------------------------------------------------------------------------------- classes


def test_focal_loss_by_hand() -> None:
    loss = FocalLoss(gamma=2.0, alpha=0.25, reduction="none")
    found = loss(torch.tensor([[0.0, math.log(3)]]), torch.tensor([0]))
    expected = [0.25 * 0.5**2 * math.log(2), 0.75 * 0.75**2 * math.log(4)]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_focal_loss_is_torchvisions_and_background_is_c_or_negative() -> None:
    logits = torch.linspace(-30, 30, 60).reshape(20, 3)
    target = torch.arange(20) % 5 - 1  # -1, 0, 1, 2, 3
    dense = F.one_hot(target.clamp(min=0), 4)[:, :3] * (target >= 0)[:, None]
    expected = tv.sigmoid_focal_loss(logits, dense.float(), alpha=0.3, gamma=1.5, reduction="mean")
    torch.testing.assert_close(FocalLoss(alpha=0.3, gamma=1.5)(logits, target), expected)
    torch.testing.assert_close(FocalLoss(alpha=0.3, gamma=1.5)(logits, dense), expected)
    weight = torch.rand(20, 3)
    each = tv.sigmoid_focal_loss(logits, dense.float(), alpha=0.25, gamma=2)
    torch.testing.assert_close(FocalLoss()(logits, target, weight, 4.0), (each * weight).sum() / 4)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_the_slope_of_focal_loss_of_classes_is_autograds_of_zeros_and_ones(gamma: float) -> None:
    loss = FocalLoss(gamma=gamma, reduction="none")
    logits = torch.linspace(-90, 90, 60).reshape(20, 3).requires_grad_()
    target = torch.arange(20) % 5 - 1  # -1, 0, 1, 2, 3
    dense = F.one_hot(target.clamp(min=0), 4)[:, :3] * (target >= 0)[:, None]
    weight = torch.rand(20, 3)
    (found,) = torch.autograd.grad((loss(logits, target) * weight).sum(), logits)
    (expected,) = torch.autograd.grad((loss(logits, dense) * weight).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_the_slope_of_focal_loss_of_classes_is_not_differentiated_again() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(FocalLoss()(logits, torch.tensor([0, -1])), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="grad"):
        slope.sum().backward()


def test_softmax_background_is_the_last_logit_and_negative_labels_mean_it() -> None:
    loss = CrossEntropyLoss(reduction="none")
    assert loss.softmax
    logits = torch.tensor([[0.0, 0.0, math.log(2)]] * 3)
    found = loss(logits, torch.tensor([1, 2, -1]))
    torch.testing.assert_close(found, torch.tensor([math.log(4), math.log(2), math.log(2)]))


def test_softmax_class_weight_and_ignore_index() -> None:
    logits, target = torch.randn(5, 4), torch.tensor([0, 3, 255, 1, -1])
    weights = [1.0, 2.0, 0.5, 3.0]
    each = F.cross_entropy(
        logits, torch.tensor([0, 3, 0, 1, 3]), torch.tensor(weights), reduction="none"
    ) * torch.tensor([1.0, 1, 0, 1, 1])
    torch.testing.assert_close(CrossEntropyLoss(class_weight=weights, ignore_index=255)(logits, target), each.sum() / 5)
    loss = CrossEntropyLoss(class_weight=weights, ignore_index=255, avg_non_ignore=True)
    torch.testing.assert_close(loss(logits, target), each.sum() / 4)
    assert number(CrossEntropyLoss(ignore_index=-1, reduction="none")(logits, target * 0 - 1).sum()) == 0
    assert not loss.state_dict()


def test_sigmoid_cross_entropy_of_classes_and_of_dense_targets() -> None:
    loss = CrossEntropyLoss(use_sigmoid=True, reduction="none")
    assert not loss.softmax
    found = loss(torch.tensor([[0.0, math.log(3)]] * 3), torch.tensor([1, 2, -1]))
    nothing = [math.log(2), math.log(4)]
    torch.testing.assert_close(found, torch.tensor([[math.log(2), math.log(4 / 3)], nothing, nothing]))
    centerness = loss(torch.tensor([0.0, 0.0]), torch.tensor([0.3, 1.0]))
    torch.testing.assert_close(centerness, torch.full((2,), math.log(2)))
    weighted = CrossEntropyLoss(use_sigmoid=True, class_weight=[2.0, 1.0], reduction="sum")
    assert number(weighted(torch.zeros(1, 2), torch.tensor([0]))) == pytest.approx(3 * math.log(2))


def test_sigmoid_cross_entropy_ignores_rows_of_the_index() -> None:
    loss = CrossEntropyLoss(use_sigmoid=True, ignore_index=7, reduction="none")
    found = loss(torch.zeros(2, 2), torch.tensor([7, 0]))
    assert found[0].tolist() == [0, 0]
    assert found[1].tolist() == pytest.approx([math.log(2)] * 2)


def test_class_losses_take_batches_of_priors() -> None:
    logits, target = torch.randn(2, 5, 3), torch.randint(-1, 3, (2, 5))
    for loss in (FocalLoss(), CrossEntropyLoss(), CrossEntropyLoss(use_sigmoid=True)):
        flat = loss(logits.flatten(0, 1), target.flatten())
        torch.testing.assert_close(loss(logits, target), flat)


# ------------------------------------------------------------------------------------------------------------ boxes


def test_iou_losses_by_hand() -> None:
    first = torch.tensor([[0.0, 0, 4, 4], [0, 0, 2, 2], [0, 0, 2, 2]])
    second = torch.tensor([[2.0, 0, 6, 4], [4, 0, 6, 2], [0, 0, 2, 2]])  # IoU 1/3, 0, 1
    none: Any = {"reduction": "none"}
    third = 1 / 3
    assert IoULoss(mode="linear", **none)(first, second).tolist() == pytest.approx([1 - third, 1, 0], abs=1e-5)
    assert IoULoss(mode="square", **none)(first, second).tolist() == pytest.approx([1 - third**2, 1, 0], abs=1e-5)
    found = IoULoss(eps=1e-3, **none)(first, second).tolist()
    assert found == pytest.approx([math.log(3), math.log(1000), 0], abs=1e-5)
    assert GIoULoss(**none)(first, second).tolist() == pytest.approx([1 - third, 1 + third, 0], abs=1e-5)
    assert DIoULoss(**none)(first, second).tolist() == pytest.approx([1 - third + 4 / 52, 1 + 16 / 40, 0], abs=1e-5)
    assert CIoULoss(**none)(first, second).tolist() == pytest.approx([1 - third + 4 / 52, 1 + 16 / 40, 0], abs=1e-5)


@pytest.mark.parametrize(
    ("make", "reference"), [(GIoULoss, tv.generalized_box_iou_loss), (DIoULoss, tv.distance_box_iou_loss)]
)
def test_giou_and_diou_are_torchvisions(make: Callable[..., Loss], reference: Callable[..., Tensor]) -> None:
    first, second = random_boxes(200, 3), random_boxes(200, 4)
    torch.testing.assert_close(make(reduction="none")(first, second), reference(first, second), atol=1e-5, rtol=1e-5)


def test_ciou_is_torchvisions_where_boxes_overlap_by_half_and_diou_elsewhere() -> None:
    first = random_boxes(500, 5)
    second = first + torch.randn(500, 4, generator=torch.Generator().manual_seed(6)) * 4
    second = torch.cat([second[:, :2], torch.maximum(second[:, 2:], second[:, :2] + 1)], 1)
    half = box_losses.iou(first, second) > 0.5
    assert 100 < int(half.sum()) < 490
    found = CIoULoss(reduction="none")(first, second)
    expected = torch.where(half, tv.complete_box_iou_loss(first, second), tv.distance_box_iou_loss(first, second))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", OF_BOXES)
def test_the_iou_family_reads_pixels_and_averages_weights_of_sides(make: Callable[..., Loss]) -> None:
    assert make().decoded
    first, second = random_boxes(6, 7), random_boxes(6, 8)
    sides = torch.rand(6, 4)
    torch.testing.assert_close(make()(first, second, sides, 2.0), make()(first, second, sides.mean(1), 2.0))


@pytest.mark.parametrize("make", OF_BOXES)
def test_boxes_without_area_have_finite_gradients(make: Callable[..., Loss]) -> None:
    first = torch.tensor([[0.0, 0, 0, 0], [5, 5, 5, 9], [3, 3, 1, 1], [0, 0, 9, 9]], requires_grad=True)
    second = torch.tensor([[0.0, 0, 0, 0], [5, 5, 8, 5], [1, 1, 4, 4], [0, 0, 0, 0]])
    loss = make()(first, second)
    loss.backward()
    assert loss.isfinite()
    assert first.grad is not None
    assert first.grad.isfinite().all()


def test_l1_losses_by_hand() -> None:
    first, second = torch.tensor([[0.0, 1.0, 4.0]]), torch.tensor([[0.5, 1.0, 1.0]])
    assert not L1Loss().decoded
    assert L1Loss(reduction="none")(first, second).tolist() == [[0.5, 0, 3]]
    assert MSELoss(reduction="none")(first, second).tolist() == [[0.25, 0, 9]]
    assert SmoothL1Loss(reduction="none")(first, second).tolist() == [[0.125, 0, 2.5]]
    assert SmoothL1Loss(beta=2.0, reduction="none")(first, second).tolist() == [[0.0625, 0, 2]]
    assert SmoothL1Loss(beta=0.0, reduction="none")(first, second).tolist() == [[0.5, 0, 3]]
    weight = torch.tensor([[1.0, 1.0, 0.5]])
    assert number(L1Loss()(first, second, weight, 2.0)) == pytest.approx(1.0)
