"""Harmonised losses against loops over their definition, and what they keep from step to step."""

from __future__ import annotations

import math

import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Loss
from detcore_losses.ghm import GHMC, GHMR, GradientDensity
from torch import Tensor


def harmonised(losses: list[float], lengths: list[float], bins: int, momentum: float, kept: list[float]) -> float:
    """Loss over count, region by region, over the regions that hold anything; ``kept`` moves on."""
    total, regions = 0.0, 0
    for region in range(bins):
        low, high = region / bins, (region + 1) / bins if region + 1 < bins else math.inf
        inside = [loss for loss, length in zip(losses, lengths, strict=True) if low <= length < high]
        if inside:
            regions += 1
            kept[region] = momentum * kept[region] + (1 - momentum) * len(inside)
            total += sum(inside) / kept[region]
    return total / max(regions, 1)


def ghm_c(logits: Tensor, target: Tensor, weight: Tensor, bins: int, momentum: float, kept: list[float]) -> float:
    losses, lengths = [], []
    for row, label, counts in zip(logits.tolist(), target.tolist(), weight.tolist(), strict=True):
        for column, logit in enumerate(row):
            if counts > 0:
                probability = 1 / (1 + math.exp(-logit))
                losses.append(-math.log(probability if column == label else 1 - probability))
                lengths.append(abs(probability - (column == label)))
    return harmonised(losses, lengths, bins, momentum, kept)


def ghm_r(
    input: Tensor, target: Tensor, weight: Tensor, mu: float, bins: int, momentum: float, kept: list[float]
) -> float:
    losses, lengths = [], []
    for row, wanted, counts in zip(input.tolist(), target.tolist(), weight.tolist(), strict=True):
        for a, b in zip(row, wanted, strict=True):
            if counts > 0:
                root = math.sqrt((a - b) ** 2 + mu**2)
                losses.append(root - mu)
                lengths.append(abs(a - b) / root)
    return harmonised(losses, lengths, bins, momentum, kept)


def example(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(40, 3) float64 numbers, (40,) classes of which some are background, (40,) weights of which some are 0."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(40, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(-1, 4, (40,), generator=generator)
    return logits, target, torch.randint(0, 3, (40,), generator=generator) / 2


@pytest.mark.parametrize(("bins", "momentum"), [(10, 0.0), (30, 0.75), (1, 0.5)])
def test_ghm_c_is_its_definition_step_after_step(bins: int, momentum: float) -> None:
    loss, kept = GHMC(bins=bins, momentum=momentum, loss_weight=2.0), [0.0] * bins
    for step in range(4):
        logits, target, weight = example(step)
        found = loss(logits, target, weight, 123.0)
        assert float(found) == pytest.approx(2 * ghm_c(logits, target, weight, bins, momentum, kept), rel=1e-6)


@pytest.mark.parametrize(("bins", "momentum", "mu"), [(10, 0.0, 0.02), (10, 0.7, 0.5), (4, 0.5, 2.0)])
def test_ghm_r_is_its_definition_step_after_step(bins: int, momentum: float, mu: float) -> None:
    loss, kept = GHMR(mu=mu, bins=bins, momentum=momentum, loss_weight=10.0), [0.0] * bins
    for step in range(4):
        (input, _, weight), (target, _, _) = example(step), example(step + 10)
        found = loss(input, target, weight, 123.0)
        assert float(found) == pytest.approx(10 * ghm_r(input, target, weight, mu, bins, momentum, kept), rel=1e-6)


def test_a_region_begins_with_its_edge() -> None:
    """Lengths 0.5, 0.5 and 0.4999 in two regions: two in the upper, one in the lower; each region weighs a half."""
    lengths = torch.tensor([0.5, 0.5, 0.4999, 1.0])
    counts = torch.tensor([True, True, True, False])
    assert GradientDensity(2, 0.0)(lengths, counts).tolist() == [0.25, 0.25, 0.5, 0]


def test_a_region_without_elements_keeps_its_count() -> None:
    density = GradientDensity(2, 0.5)
    everything = torch.ones(4, dtype=torch.bool)
    density(torch.tensor([0.1, 0.1, 0.9, 0.9]), everything)
    density(torch.tensor([0.1, 0.1, 0.1, 0.1]), everything)
    assert density.acc_sum is not None
    assert density.acc_sum.tolist() == [0.5 * 1 + 0.5 * 4, 1.0]


def test_counts_are_part_of_the_checkpoint_where_they_are_kept() -> None:
    assert list(GHMC(momentum=0.75).state_dict()) == ["density.acc_sum"]
    assert not GHMR().state_dict()
    first, second = GHMC(momentum=0.75), GHMC(momentum=0.75)
    logits, target, _ = example(0)
    first(logits, target)
    second.load_state_dict(first.state_dict())
    assert float(first(logits, target)) == float(second(logits, target))


def test_weights_of_each_number_and_dense_targets() -> None:
    logits, target, _ = example(1)
    dense = (target[:, None] == torch.arange(3)).double()
    one = torch.zeros(40, 3)
    one[4, 1] = 7
    expected = ghm_c(logits[4:5, 1:2], torch.tensor([0 if dense[4, 1] else -1]), torch.ones(1), 10, 0.0, [0.0] * 10)
    assert float(GHMC()(logits, dense, one)) == pytest.approx(expected)
    assert float(GHMC()(logits, dense)) == float(GHMC()(logits, target, torch.ones(40)))
    difference = GHMR()(logits, dense, one)
    assert float(difference) == pytest.approx(
        ghm_r(logits[4:5, 1:2], dense[4:5, 1:2], torch.ones(1), 0.02, 10, 0.0, [0.0] * 10)
    )


@pytest.mark.parametrize("loss", [GHMC(), GHMC(bins=30, momentum=0.75), GHMR(), GHMR(momentum=0.7)])
def test_extremes_nothing_and_half_precision_are_finite_with_a_gradient(loss: Loss) -> None:
    target = torch.arange(12).reshape(4, 3) % 2
    for given in (torch.full((4, 3), 1e4), torch.full((4, 3), -1e4), torch.zeros(4, 3).half()):
        input = given.requires_grad_()
        found = loss(input, target)
        found.backward()
        assert found.dtype == torch.float32
        assert found.isfinite()
        assert input.grad is not None
        assert input.grad.isfinite().all()
    for rows, weight in ((0, None), (4, torch.zeros(4))):
        input = torch.ones(rows, 3, requires_grad=True)
        found = loss(input, target[:rows], weight, 0.0)
        found.backward()
        assert found.item() == 0
        assert input.grad is not None
        assert not input.grad.any()


@pytest.mark.parametrize("loss", [GHMC(), GHMR(mu=1.0)])
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    """The weights are constants to the gradient; away from the edges of regions they do not move either."""
    input, target = example(2)[0][:6].requires_grad_(), example(3)[0][:6].sigmoid().round()
    torch.autograd.gradcheck(lambda x: loss(x, target), input, eps=1e-7)


def test_impossible_bins_and_momenta_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"bins: 0\. Give one at least"):
        GHMC(bins=0)
    with pytest.raises(ConfigError, match=r"momentum: 1\.0\. Give a number in \[0, 1\)"):
        GHMR(momentum=1.0)
