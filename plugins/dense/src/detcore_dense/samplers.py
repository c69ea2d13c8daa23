"""Which of the matched priors take part in the losses (Ren et al. 2015, Faster R-CNN, section 3.1.3)."""

from __future__ import annotations

import attrs
import torch
from detcore.interfaces import Sampler
from detcore.structures import BACKGROUND, IGNORED, Matches
from torch import Tensor


class RandomSampler(Sampler):
    """So many priors per image, at most a share of them positive; negatives fill the rest.

    Args:
        num: Priors per image.
        pos_fraction: At most this share of them is positive.
        neg_pos_ub: At most so many negatives per positive (per one, where there is none); None is no limit.
    """

    def __init__(self, *, num: int, pos_fraction: float = 0.5, neg_pos_ub: float | None = None) -> None:
        super().__init__()
        self.num = num
        self.pos_fraction = pos_fraction
        self.neg_pos_ub = neg_pos_ub

    def forward(self, matches: Matches) -> Matches:
        """The same matches, -2 (ignored) where a prior is left out."""
        most = matches.index.new_full((len(matches.index),), int(self.num * self.pos_fraction))
        positive = choose(matches.positive, most)
        count = positive.sum(1)
        most = self.num - count
        if self.neg_pos_ub is not None:
            most = torch.minimum(most, (self.neg_pos_ub * count.clamp(min=1)).long())
        negative = choose(matches.index == BACKGROUND, most)
        return attrs.evolve(matches, index=torch.where(positive | negative, matches.index, IGNORED))


def choose(candidates: Tensor, count: Tensor) -> Tensor:
    """At most ``count`` (B,) of each row's ``candidates`` (B, P) at random, as (B, P) bool."""
    lot = torch.where(candidates, torch.rand(candidates.shape, device=candidates.device), 2)
    rank = lot.argsort(1).argsort(1)
    return candidates & (rank < count[:, None])
