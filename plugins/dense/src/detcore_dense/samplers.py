"""Which of the matched priors take part in the losses (Ren et al. 2015, Faster R-CNN, section 3.1.3)."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Sampler
from detcore.structures import BACKGROUND, IGNORED, Matches
from torch import Tensor

Choice = Callable[[Matches, Tensor], Tensor]
"""Matches, and how many of each image (B,) at most -> which, as (B, P) bool."""


# -------------------------------------------------------------------------------------------------- plain functions


def choose(candidates: Tensor, count: Tensor) -> Tensor:
    """At most ``count`` (B,) of each row's ``candidates`` (B, P) at random, as (B, P) bool."""
    lot = torch.where(candidates, torch.rand(candidates.shape, device=candidates.device), 2)
    rank = lot.argsort(1).argsort(1)
    return candidates & (rank < count[:, None])


def random_positives(matches: Matches, most: Tensor) -> Tensor:
    """Positives at random; a :data:`Choice`."""
    return choose(matches.positive, most)


def random_negatives(matches: Matches, most: Tensor) -> Tensor:
    """Negatives at random; a :data:`Choice`."""
    return choose(matches.index == BACKGROUND, most)


@attrs.frozen
class Share:
    """How many positives and negatives of an image.

    Attributes:
        num: Priors per image.
        pos_fraction: At most this share of them is positive.
        neg_pos_ub: At most so many negatives per positive (per one, where there is none); None is no limit.
    """

    num: int
    pos_fraction: float
    neg_pos_ub: float | None

    def __call__(self, matches: Matches, positives: Choice, negatives: Choice) -> Matches:
        """The same matches, -2 (ignored) where a prior is not chosen."""
        most = matches.index.new_full((len(matches.index),), int(self.num * self.pos_fraction))
        positive = positives(matches, most)
        count = positive.sum(1)
        most = self.num - count
        if self.neg_pos_ub is not None:
            most = torch.minimum(most, (self.neg_pos_ub * count.clamp(min=1)).long())
        chosen = positive | negatives(matches, most)
        return attrs.evolve(matches, index=torch.where(chosen, matches.index, IGNORED))


# ----------------------------------------------------------------------------------------------------- the samplers


class PseudoSampler(Sampler):
    """Every matched prior; the same as no sampler."""

    def forward(self, matches: Matches) -> Matches:
        """The same matches."""
        return matches


class RandomSampler(Sampler):
    """So many priors per image, at most a share of them positive; negatives fill the rest.

    Args:
        num: Priors per image.
        pos_fraction: At most this share of them is positive.
        neg_pos_ub: At most so many negatives per positive (per one, where there is none); None is no limit.
    """

    def __init__(self, *, num: int, pos_fraction: float = 0.5, neg_pos_ub: float | None = None) -> None:
        super().__init__()
        self.share = Share(num, pos_fraction, neg_pos_ub)

    def forward(self, matches: Matches) -> Matches:
        """The same matches, -2 (ignored) where a prior is left out."""
        return self.share(matches, random_positives, random_negatives)


class InstanceBalancedPosSampler(Sampler):
    """Positives spread evenly over the objects; negatives at random (Pang et al. 2019, Libra R-CNN, section 3.1).

    Each object has the same quota, what is left is filled at random; the other parameters are those of
    :class:`RandomSampler`.
    """

    def __init__(self, *, num: int, pos_fraction: float = 0.5, neg_pos_ub: float | None = None) -> None:
        super().__init__()
        self.share = Share(num, pos_fraction, neg_pos_ub)

    def forward(self, matches: Matches) -> Matches:
        """The same matches, -2 (ignored) where a prior is left out."""
        return self.share(matches, _balanced_positives, random_negatives)


class IoUBalancedNegSampler(Sampler):
    """Negatives spread evenly over intervals of the IoU; positives at random (Libra R-CNN, section 3.1).

    Intervals reach from ``floor_thr`` to the largest IoU of the image, positives' too. What an interval has too few of
    is filled at random. Hard negatives are so few that a random choice among all hardly meets one.

    Args:
        num: Priors per image.
        pos_fraction: At most this share of them is positive.
        neg_pos_ub: At most so many negatives per positive (per one, where there is none); None is no limit.
        floor_thr: Negatives below this IoU (at 0: without any) are the floor, outside the intervals; below 0: none is.
        floor_fraction: Share of the negatives that the floor gives, where there are enough of both.
        num_bins: How many intervals.

    Raises:
        ConfigError: No interval, or a fraction that is none; the assigner says no IoU.
    """

    def __init__(
        self,
        *,
        num: int,
        pos_fraction: float = 0.5,
        neg_pos_ub: float | None = None,
        floor_thr: float = -1.0,
        floor_fraction: float = 0.0,
        num_bins: int = 3,
    ) -> None:
        super().__init__()
        if num_bins < 1:
            raise ConfigError("IoUBalancedNegSampler: num_bins", f"{num_bins}", "Give one interval at least.")
        if not 0 <= floor_fraction <= 1:
            raise ConfigError("IoUBalancedNegSampler: floor_fraction", f"{floor_fraction}", "Give a share, 0 to 1.")
        self.share = Share(num, pos_fraction, neg_pos_ub)
        self.floor_thr = floor_thr
        self.floor_fraction = floor_fraction
        self.num_bins = num_bins

    def forward(self, matches: Matches) -> Matches:
        """The same matches, -2 (ignored) where a prior is left out."""
        return self.share(matches, random_positives, self._negatives)

    def _negatives(self, matches: Matches, most: Tensor) -> Tensor:
        if matches.quality is None:
            fix = "It needs an assigner that does (MaxIoUAssigner)."
            raise ConfigError("IoUBalancedNegSampler", "the assigner does not say how much priors overlap", fix)
        negative, iou = matches.index == BACKGROUND, matches.quality
        floor = iou < self.floor_thr if self.floor_thr else iou <= 0
        above = negative & ~floor
        wanted = (most * (1 - self.floor_fraction)).long()
        chosen = torch.zeros_like(negative)
        for inside in self._intervals(iou):
            chosen = chosen | choose(above & inside, wanted // self.num_bins)
        for group, count in ((above, wanted), (negative & floor, most), (negative, most)):
            chosen = chosen | choose(group & ~chosen, count - chosen.sum(1))
        return chosen

    def _intervals(self, iou: Tensor) -> list[Tensor]:
        """Which priors each interval holds, (B, P) bool."""
        low = max(self.floor_thr, 0.0)
        width = (iou.amax(1, keepdim=True) - low) / self.num_bins
        return [(iou >= low + step * width) & (iou < low + (step + 1) * width) for step in range(self.num_bins)]


class OHEMSampler(Sampler):
    """The hardest: of positives and of negatives those whose class costs most now (Shrivastava et al. 2016, OHEM).

    All regions are classified for it first, without gradient, so it belongs in a stage of a RoI head. As in
    MMDetection, and other than in section 4.2 of the paper, positives and negatives have their own shares, and regions
    that overlap each other may all be chosen. Of equal losses the first is taken; the parameters are those of
    :class:`RandomSampler`.

    Raises:
        ConfigError: Nobody says what classes cost.
    """

    needs_losses = True

    def __init__(self, *, num: int, pos_fraction: float = 0.5, neg_pos_ub: float | None = None) -> None:
        super().__init__()
        self.share = Share(num, pos_fraction, neg_pos_ub)

    def forward(self, matches: Matches) -> Matches:
        """The same matches, -2 (ignored) where a region is left out."""
        return self.share(matches, _hardest_positives, _hardest_negatives)


class CombinedSampler(Sampler):
    """The positives that one sampler chooses, with the negatives that another chooses beside them.

    Args:
        pos: Chooses positives.
        neg: Chooses negatives; it sees no other positives than those that are chosen, and keeps as many as it may.
    """

    def __init__(self, *, pos: Sampler, neg: Sampler) -> None:
        super().__init__()
        self.pos = pos
        self.neg = neg
        self.needs_losses = pos.needs_losses or neg.needs_losses

    def forward(self, matches: Matches) -> Matches:
        """The same matches, -2 (ignored) where a prior is left out."""
        left_out = matches.positive & ~self.pos(matches).positive
        chosen: Matches = self.neg(attrs.evolve(matches, index=torch.where(left_out, IGNORED, matches.index)))
        return chosen


def _hardest_positives(matches: Matches, most: Tensor) -> Tensor:
    return _hardest(matches, matches.positive, most)


def _hardest_negatives(matches: Matches, most: Tensor) -> Tensor:
    return _hardest(matches, matches.index == BACKGROUND, most)


def _hardest(matches: Matches, candidates: Tensor, most: Tensor) -> Tensor:
    """Of the candidates (B, P) of each image those that cost most, ``most`` (B,) of them at most."""
    if matches.losses is None:
        fix = "It belongs in a stage of a RoI head (roi_head.stages)."
        raise ConfigError("OHEMSampler", "nobody says what the candidates' classes cost", fix)
    cost = torch.where(candidates, matches.losses, -torch.inf)
    rank = cost.argsort(stable=True, dim=1, descending=True).argsort(1)
    chosen: Tensor = candidates & (rank < most[:, None])
    return chosen


def _balanced_positives(matches: Matches, most: Tensor) -> Tensor:
    """Each object's quota, cut or filled to ``most`` at random."""
    quota = _quota(matches.index, most)
    within = choose(matches.positive & (_place_among_equals(matches.index) < quota[:, None]), most)
    return within | choose(matches.positive & ~within, most - within.sum(1))


def _quota(index: Tensor, most: Tensor) -> Tensor:
    """(B,) positives per object: an equal share of ``most``, rounded, and one more."""
    ordered = index.sort(1).values
    objects = (ordered[:, :1] >= 0).sum(1) + ((ordered[:, 1:] > ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum(1)
    return (most / objects.clamp(min=1)).round().long() + 1


def _place_among_equals(index: Tensor) -> Tensor:
    """(B, P): in a random order of the priors with the same index, which place each has, from 0."""
    shuffled = torch.rand(index.shape, device=index.device).argsort(1)
    order = shuffled.gather(1, index.gather(1, shuffled).argsort(dim=1, stable=True))
    ordered = index.gather(1, order)
    place = torch.arange(index.shape[1], device=index.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(index).scatter(1, order, place)
