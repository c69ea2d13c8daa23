"""Samplers: how many of what, spread evenly where they say so, and nothing else changed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Sampler
from detcore.structures import Matches
from detcore_dense.samplers import (
    CombinedSampler,
    InstanceBalancedPosSampler,
    IoUBalancedNegSampler,
    PseudoSampler,
    RandomSampler,
)
from torch import Tensor


def matches(*counts: tuple[int, int], negatives: int, ignored: int = 3, seed: int = 0) -> Matches:
    """One image per seed and three in all: of each object (its number, positives), shuffled; IoU from 0 to 1."""
    rows = torch.tensor([number for number, many in counts for _ in range(many)] + [-1] * negatives + [-2] * ignored)
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([rows[torch.randperm(len(rows), generator=generator)] for _ in range(3)])
    iou = torch.rand(index.shape, generator=generator)
    return Matches(index, torch.where(index >= 0, 0.5 + iou / 2, iou / 2))


def with_iou(positives: list[float], negatives: list[float]) -> Matches:
    index = torch.tensor([[0] * len(positives) + [-1] * len(negatives)])
    return Matches(index, torch.tensor([positives + negatives]))


def kept(found: Matches, image: int = 0) -> Counter[int]:
    return Counter(found.index[image].tolist())


def kept_iou(found: Matches) -> list[float]:
    """The IoU of the negatives that stay."""
    assert found.quality is not None
    return sorted(round(value, 3) for value in found.quality[found.index == -1].tolist())


EVERY: list[Sampler] = [
    RandomSampler(num=20, pos_fraction=0.5),
    InstanceBalancedPosSampler(num=20, pos_fraction=0.5),
    IoUBalancedNegSampler(num=20, pos_fraction=0.5),
    IoUBalancedNegSampler(num=20, pos_fraction=0.5, floor_thr=0.2, floor_fraction=0.5),
    CombinedSampler(
        pos=InstanceBalancedPosSampler(num=20, pos_fraction=0.5), neg=IoUBalancedNegSampler(num=20, pos_fraction=0.5)
    ),
]


@pytest.mark.parametrize("sampler", EVERY)
@pytest.mark.parametrize(
    ("positives", "negatives", "expected"), [(30, 50, (10, 10)), (4, 50, (4, 16)), (30, 5, (10, 5)), (0, 3, (0, 3))]
)
def test_so_many_priors_at_most_half_of_them_positive(
    sampler: Sampler, positives: int, negatives: int, expected: tuple[int, int]
) -> None:
    given = matches((0, positives // 2), (2, positives - positives // 2), negatives=negatives)
    before = given.index.clone()
    found = sampler(given)
    assert torch.equal(given.index, before)
    assert found.quality is given.quality
    assert torch.equal(found.index[found.index != -2], before[found.index != -2])
    for image in range(3):
        assert (int(found.positive[image].sum()), kept(found, image)[-1]) == expected


@pytest.mark.parametrize("make", [RandomSampler, InstanceBalancedPosSampler, IoUBalancedNegSampler])
def test_negatives_per_positive_are_limited_by_one_where_there_is_none(make: type[RandomSampler]) -> None:
    sampler = make(num=100, neg_pos_ub=3.0)
    assert kept(sampler(matches((0, 5), negatives=90)))[-1] == 15
    assert kept(sampler(matches(negatives=90)))[-1] == 3


@pytest.mark.parametrize("sampler", EVERY)
def test_the_choice_is_random(sampler: Sampler) -> None:
    given = matches((0, 30), (1, 30), negatives=100)
    torch.manual_seed(0)
    often = torch.stack([(sampler(given).index[0] != -2).float() for _ in range(60)]).mean(0)
    assert (often[given.index[0] == -2] == 0).all()
    assert (often[given.index[0] >= 0] > 0).all()
    assert (often < 1).all()


def test_pseudo_sampler_is_all() -> None:
    given = matches((0, 5), negatives=90)
    assert PseudoSampler()(given) is given


# --------------------------------------------------------------------------------------------- positives per object


def test_positives_are_spread_evenly_over_the_objects() -> None:
    """12 wanted of three objects: a quota of 12 / 3 + 1; the first object alone would fill it."""
    given = matches((0, 200), (3, 6), (7, 6), negatives=50)
    sampler = InstanceBalancedPosSampler(num=24, pos_fraction=0.5)
    for image in range(3):
        found = kept(sampler(given), image)
        assert found[0] + found[3] + found[7] == 12
        assert max(found[0], found[3], found[7]) <= 5


def test_what_quotas_leave_is_filled_at_random() -> None:
    """12 wanted of two objects, a quota of 7; the second has two only, so the first gives ten."""
    found = kept(InstanceBalancedPosSampler(num=24, pos_fraction=0.5)(matches((0, 200), (3, 2), negatives=50)))
    assert (found[0], found[3], found[-1]) == (10, 2, 12)


# ---------------------------------------------------------------------------------------- negatives per interval


def test_negatives_are_spread_evenly_over_the_iou() -> None:
    """Nine wanted; intervals of 0.3 up to the largest IoU, a positive's 0.9: three of each."""
    easy, middle, hard = [0.01 * i for i in range(25)], [0.35, 0.36, 0.37, 0.38], [0.65, 0.66, 0.67]
    found = kept_iou(IoUBalancedNegSampler(num=10, pos_fraction=0.1)(with_iou([0.9], easy + middle + hard)))
    assert len(found) == 9
    assert found[-3:] == hard
    assert set(found[3:6]) <= set(middle)
    assert found[2] < 0.3


def test_what_an_interval_lacks_is_filled_at_random() -> None:
    found = kept_iou(IoUBalancedNegSampler(num=10, pos_fraction=0.1)(with_iou([0.9], [0.1] * 40 + [0.7])))
    assert found == [0.1] * 8 + [0.7]


def test_the_floor_gives_its_fraction() -> None:
    """Ten wanted, three of them below 0.1; then where the floor has one only."""
    options = {"num": 10, "pos_fraction": 0.0, "floor_thr": 0.1, "floor_fraction": 0.3, "num_bins": 2}
    sampler = IoUBalancedNegSampler(**options)  # type: ignore[arg-type]
    found = kept_iou(sampler(with_iou([], [0.05] * 50 + [0.2] * 50 + [0.45] * 3 + [0.5])))
    assert found[:3] == [0.05] * 3
    assert found[3:-3].count(0.2) >= 3
    assert found.count(0.45) == 3
    assert kept_iou(sampler(with_iou([], [0.05] + [0.2] * 50))) == [0.05] + [0.2] * 9


def test_a_floor_of_zero_is_what_overlaps_nothing() -> None:
    sampler = IoUBalancedNegSampler(num=10, pos_fraction=0.0, floor_thr=0.0, floor_fraction=0.5)
    assert kept_iou(sampler(with_iou([], [0.0] * 50 + [0.2] * 50))).count(0.0) == 5
    assert kept_iou(sampler(with_iou([], [0.0] * 50 + [0.2] * 2))).count(0.0) == 8


def test_combined_keeps_the_first_ones_positives() -> None:
    class Last(Sampler):
        def forward(self, matches: Matches) -> Matches:
            last = torch.arange(matches.index.shape[1]) == matches.index.shape[1] - 1
            return Matches(torch.where(last, matches.index, -2))

    index = torch.tensor([[0, -1, -1, -2, 1]])
    quality: Tensor = torch.tensor([[0.9, 0.1, 0.2, 0.0, 0.7]])
    found = CombinedSampler(pos=Last(), neg=RandomSampler(num=3))(Matches(index, quality))
    assert found.index.tolist() == [[-2, -1, -1, -2, 1]]
    assert found.quality is quality


def test_what_cannot_be_balanced_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"IoUBalancedNegSampler: num_bins: 0\. Give one interval at least"):
        IoUBalancedNegSampler(num=8, num_bins=0)
    with pytest.raises(ConfigError, match=r"IoUBalancedNegSampler: floor_fraction: 1\.5\. Give a share, 0 to 1"):
        IoUBalancedNegSampler(num=8, floor_fraction=1.5)
    with pytest.raises(ConfigError, match=r"the assigner does not say how much priors overlap.*MaxIoUAssigner"):
        IoUBalancedNegSampler(num=8)(Matches(torch.tensor([[0, -1]])))
