"""Losses of qualities, distributions, sets and balanced differences against loops over their definitions in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from detcore.interfaces import Loss
from detcore_losses.boxes import BalancedL1Loss
from detcore_losses.dice import DiceLoss
from detcore_losses.quality import DistributionFocalLoss, QualityFocalLoss, VarifocalLoss
from torch import Tensor

WEIGHT = torch.tensor([0.0, 1, 2, 0.5, 0, 1, 1, 3], dtype=torch.float64)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def entropy(logit: float, quality: float) -> float:
    return -quality * math.log(sigmoid(logit)) - (1 - quality) * math.log(1 - sigmoid(logit))


def qualities(seed: int) -> Tensor:
    """(8, 3), at most one of each row not zero."""
    classes = torch.arange(8) % 4
    return torch.where(classes[:, None] == torch.arange(3), random(8, 3, seed=seed).sigmoid(), 0)


def quality_focal(logits: Tensor, target: Tensor, beta: float) -> list[float]:
    return [
        sum(abs(y - sigmoid(x)) ** beta * entropy(x, y) for x, y in zip(row, wanted, strict=True))
        for row, wanted in zip(logits.tolist(), target.tolist(), strict=True)
    ]


def varifocal(logit: float, quality: float, alpha: float, gamma: float, weighted: bool) -> float:
    if quality > 0:
        return entropy(logit, quality) * (quality if weighted else 1)
    return alpha * sigmoid(logit) ** gamma * entropy(logit, 0)


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_quality_focal_loss_is_its_definition(beta: float) -> None:
    logits, target = 2 * random(8, 3, seed=0), qualities(1)
    rows = quality_focal(logits, target, beta)
    each = QualityFocalLoss(beta=beta, reduction="none")(logits, target)
    assert each.tolist() == pytest.approx(rows)
    total = sum(weight * row for weight, row in zip(WEIGHT.tolist(), rows, strict=True))
    loss = QualityFocalLoss(beta=beta, loss_weight=3.0)
    assert float(loss(logits, target, WEIGHT, 5.0)) == pytest.approx(3 * total / 5, rel=1e-6)
    assert float(loss(logits, target, WEIGHT)) == pytest.approx(3 * total / 8)


def test_quality_focal_loss_by_hand() -> None:
    """Probability 1/4 of quality 1, and 3/4 of a class that is not there."""
    logits = torch.tensor([[-math.log(3), math.log(3)]])
    found = QualityFocalLoss(reduction="none")(logits, torch.tensor([0]))
    torch.testing.assert_close(found, torch.tensor([2 * 0.75**2 * math.log(4)]))


@pytest.mark.parametrize(("alpha", "gamma", "weighted"), [(0.75, 2.0, True), (0.5, 1.5, False)])
def test_varifocal_loss_is_its_definition(alpha: float, gamma: float, weighted: bool) -> None:
    logits, target = 2 * random(8, 3, seed=2), qualities(3)
    expected = [
        [varifocal(x, y, alpha, gamma, weighted) for x, y in zip(row, wanted, strict=True)]
        for row, wanted in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    options = {"alpha": alpha, "gamma": gamma, "iou_weighted": weighted}
    found = VarifocalLoss(reduction="none", **options)(logits, target)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("make", [QualityFocalLoss, VarifocalLoss])
def test_an_integer_class_is_a_quality_of_one(make: Callable[[], Loss]) -> None:
    logits, classes = random(8, 3, seed=4), torch.tensor([0, 1, 2, 3, -1, 0, 1, 2])
    dense = (classes[:, None] == torch.arange(3)).double()
    assert torch.equal(make()(logits, classes, WEIGHT, 2.0), make()(logits, dense, WEIGHT, 2.0))


def distribution_focal(logits: Tensor, target: Tensor) -> list[float]:
    values = []
    for row, place in zip(logits.tolist(), target.tolist(), strict=True):
        likely = [x - math.log(sum(map(math.exp, row))) for x in row]
        left = min(int(place), len(row) - 2)
        values.append(-(left + 1 - place) * likely[left] - (place - left) * likely[left + 1])
    return values


def test_distribution_focal_loss_is_its_definition() -> None:
    logits = random(8, 5, seed=5)
    target = torch.tensor([0.0, 0.25, 1.0, 1.75, 2.5, 3.0, 3.9, 4.0], dtype=torch.float64)
    expected = distribution_focal(logits, target)
    assert DistributionFocalLoss(reduction="none")(logits, target).tolist() == pytest.approx(expected)
    total = sum(weight * value for weight, value in zip(WEIGHT.tolist(), expected, strict=True))
    found = DistributionFocalLoss(loss_weight=0.25)(logits, target, WEIGHT, 4.0)
    assert float(found) == pytest.approx(0.25 * total / 4, rel=1e-6)


def test_a_number_beyond_the_places_counts_as_the_last_and_any_shape_goes() -> None:
    loss = DistributionFocalLoss(reduction="none")
    logits = random(2, 4, 5, seed=6)
    beyond = torch.tensor([[-3.0, 9.0, 4.0, 0.0]] * 2, dtype=torch.float64)
    assert torch.equal(loss(logits, beyond), loss(logits, beyond.clamp(0, 4)))
    assert loss(logits, beyond).shape == (2, 4)
    assert DistributionFocalLoss()(logits[:0], beyond[:0]).item() == 0


def test_distribution_focal_loss_is_least_where_the_mean_is_the_number() -> None:
    target = torch.tensor([1.25])
    best = torch.tensor([[1e-9, 0.75, 0.25, 1e-9]]).log()
    other = torch.tensor([[1e-9, 0.7, 0.3, 1e-9]]).log()
    loss = DistributionFocalLoss()
    assert float(loss(best, target)) < float(loss(other, target))


def dice(given: list[float], wanted: list[float], naive: bool, eps: float) -> float:
    shared = 2 * sum(p * t for p, t in zip(given, wanted, strict=True))
    if naive:
        return 1 - (shared + eps) / (sum(given) + sum(wanted) + eps)
    return 1 - shared / (sum(p * p for p in given) + eps + sum(t * t for t in wanted) + eps)


@pytest.mark.parametrize(("naive", "eps"), [(False, 1e-3), (True, 1e-3), (True, 1.0)])
@pytest.mark.parametrize("activate", [True, False])
def test_dice_loss_is_its_definition(naive: bool, eps: float, activate: bool) -> None:
    logits, target = random(8, 3, 4, seed=7), (random(8, 3, 4, seed=8) > 0).long()
    given = logits if activate else logits.sigmoid()
    expected = [
        dice(logits[row].sigmoid().flatten().tolist(), target[row].flatten().tolist(), naive, eps) for row in range(8)
    ]
    options = {"activate": activate, "naive_dice": naive, "eps": eps}
    each = DiceLoss(reduction="none", **options)(given, target)  # type: ignore[arg-type]
    assert each.tolist() == pytest.approx(expected)
    total = sum(weight * value for weight, value in zip(WEIGHT.tolist(), expected, strict=True))
    assert float(DiceLoss(**options)(given, target, WEIGHT, 4.0)) == pytest.approx(total / 4, rel=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(("alpha", "gamma", "beta"), [(0.5, 1.5, 1.0), (0.3, 1.0, 0.5)])
def test_balanced_l1_loss_is_its_definition(alpha: float, gamma: float, beta: float) -> None:
    first, second = random(8, 4, seed=9), random(8, 4, seed=10)
    b = math.e ** (gamma / alpha) - 1

    def one(x: float) -> float:
        if x < beta:
            return alpha / b * (b * x + 1) * math.log(b * x / beta + 1) - alpha * x
        return gamma * x + gamma / b - alpha * beta

    expected = [[one(x) for x in row] for row in (first - second).abs().tolist()]
    found = BalancedL1Loss(alpha=alpha, gamma=gamma, beta=beta, reduction="none")(first, second)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_balanced_l1_loss_is_smooth_where_inliers_end() -> None:
    """The paper asks alpha * ln(b + 1) = gamma of it: no jump of the slope at 1."""
    x = torch.tensor([1 - 1e-9, 1 + 1e-9], dtype=torch.float64, requires_grad=True)
    BalancedL1Loss(reduction="sum")(x, torch.zeros(2)).backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([1.5, 1.5], rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (QualityFocalLoss(), qualities(11)),
        (VarifocalLoss(), qualities(12)),
        (DistributionFocalLoss(), torch.linspace(0, 1.9, 8, dtype=torch.float64)),
        (DiceLoss(), qualities(13).round()),
        (DiceLoss(naive_dice=True), qualities(14)),
        (BalancedL1Loss(), qualities(15)),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Loss, target: Tensor) -> None:
    input = random(8, 3, seed=16).requires_grad_()
    torch.autograd.gradcheck(lambda x: loss(x, target, WEIGHT, 3.0), input)
