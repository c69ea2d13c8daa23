"""Assignment by intersection over union (Ren et al. 2015, Faster R-CNN, section 3.1.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Assigner
from detcore.structures import BACKGROUND, IGNORED, Batch, Matches, Predictions, Regions, Targets
from torch import Tensor

from detcore_dense.boxes import areas, full_precision, pairwise_intersection, pairwise_iou
from detcore_dense.parts import parts


@attrs.define(eq=False)  # not frozen: torch.compile cannot trace such a constructor
class _Best:
    """Of each prior the best object, of each object the best IoU and the first prior that reaches it."""

    iou: Tensor  # (B, P)
    object: Tensor  # (B, P)
    object_iou: Tensor  # (B, G)
    object_prior: Tensor  # (B, G)


class MaxIoUAssigner(Assigner):
    """A prior answers for the object that it overlaps most.

    In this order, later rules win:

    1. a prior whose best IoU is in the negative range, or whose image has no object, is background; one in no range is
       ignored;
    2. a prior whose best IoU is at least ``pos_iou`` answers for that object, the first of equals;
    3. low quality: an object whose best IoU is at least ``min_pos_iou`` takes the prior(s) that reach it, from whatever
       they had; later objects overwrite earlier ones. Without any overlap nothing is taken;
    4. priors that are not valid, or in a crowd, are ignored and are nobody's best.

    ``quality`` of the matches is each prior's best IoU, also where rule 3 gave it another object.

    Args:
        pos_iou: Least IoU of a positive.
        neg_iou: A negative's IoU is below it; or, of two numbers, in the half-open range between them.
        min_pos_iou: Least IoU of a low-quality match.
        match_low_quality: Whether rule 3 applies.
        gt_max_assign_all: All priors that reach an object's best IoU, rather than the first of them.
        ignore_iof: Priors of whose area more than this share lies in a crowd region are ignored; None: crowds do
            not matter.
        ignore_wrt_candidates: The share is of the prior's area, else of the region's.
        max_pairs: At most so many pairs of prior and object at a time (memory: about 24 bytes a pair); those of all
            priors with some 8 objects at most, where these are many.

    Raises:
        ConfigError: ``neg_iou`` is neither one nor two numbers in order, or reaches over ``pos_iou``; or that is not
            positive.
    """

    def __init__(
        self,
        *,
        pos_iou: float,
        neg_iou: float | Sequence[float],
        min_pos_iou: float = 0.0,
        match_low_quality: bool = True,
        gt_max_assign_all: bool = True,
        ignore_iof: float | None = None,
        ignore_wrt_candidates: bool = True,
        max_pairs: int = 2**24,
    ) -> None:
        super().__init__()
        bounds = (0.0, neg_iou) if isinstance(neg_iou, float | int) else tuple(neg_iou)
        if len(bounds) != 2 or not bounds[0] <= bounds[1] <= pos_iou or pos_iou <= 0:
            found = f"{neg_iou} beside pos_iou = {pos_iou}"
            raise ConfigError("neg_iou", found, "Give one number or two, in order, none above pos_iou.")
        self.pos_iou = pos_iou
        self.neg_iou = bounds
        self.min_pos_iou = min_pos_iou
        self.match_low_quality = match_low_quality
        self.gt_max_assign_all = gt_max_assign_all
        self.ignore_iof = ignore_iof
        self.ignore_wrt_candidates = ignore_wrt_candidates
        self.max_pairs = max_pairs

    @torch.no_grad()
    def forward(self, predictions: Predictions | Regions, batch: Batch) -> Matches:
        """Priors (P, 4) or (B, P, 4) and the batch's objects -> matches (B, P)."""
        priors, truth = predictions.priors, batch.truth
        boxes = full_precision(priors.boxes).expand(len(truth.boxes), -1, 4)
        if truth.boxes.shape[1] == 0 or boxes.shape[1] == 0:
            return Matches(torch.where(priors.valid, BACKGROUND, IGNORED), priors.valid.float() * 0)
        usable = priors.valid & ~self._in_crowd(boxes, truth)
        best = self._best(boxes, usable, truth)
        index = self._by_threshold(best, truth)
        if self.match_low_quality:
            index = self._low_quality(index, best, boxes, usable, truth)
        return Matches(torch.where(usable, index, IGNORED), best.iou)

    def _by_threshold(self, best: _Best, truth: Targets) -> Tensor:
        """Rules 1 and 2."""
        negative = (best.iou >= self.neg_iou[0]) & (best.iou < self.neg_iou[1])
        negative = negative | ~truth.valid.any(1, keepdim=True)
        index = torch.where(negative, BACKGROUND, IGNORED)
        return torch.where(best.iou >= self.pos_iou, best.object, index)

    def _best(self, boxes: Tensor, usable: Tensor, truth: Targets) -> _Best:
        prior_iou, prior_object, object_iou, object_prior = [], [], [], []
        for some, overlaps in self._overlaps(boxes, usable, truth):
            of_prior, of_object = overlaps.max(2), overlaps.max(1)
            prior_iou.append(of_prior.values.clamp(min=0))
            prior_object.append(of_prior.indices)
            object_iou.append(of_object.values)
            object_prior.append(of_object.indices + some.start)
        best_iou, chunk = torch.stack(object_iou).max(0)
        best_prior = torch.stack(object_prior).gather(0, chunk[None])[0]
        return _Best(torch.cat(prior_iou, 1), torch.cat(prior_object, 1), best_iou, best_prior)

    def _low_quality(self, index: Tensor, best: _Best, boxes: Tensor, usable: Tensor, truth: Targets) -> Tensor:
        """Rule 3. An object's number plus one marks the priors that it takes; the largest is the last to write."""
        number = torch.arange(truth.boxes.shape[1], device=index.device) + 1
        taking = (best.object_iou >= self.min_pos_iou) & (best.object_iou > 0)
        number = torch.where(taking, number, 0)
        taken = []
        for some, overlaps in self._overlaps(boxes, usable, truth):
            if self.gt_max_assign_all:
                reached = overlaps == best.object_iou[:, None]
            else:
                prior = torch.arange(some.start, some.stop, device=index.device)
                reached = prior[None, :, None] == best.object_prior[:, None]
            taken.append((reached * number[:, None]).amax(2))
        last = torch.cat(taken, 1)
        return torch.where(last > 0, last - 1, index)

    def _overlaps(self, boxes: Tensor, usable: Tensor, truth: Targets) -> Iterator[tuple[slice, Tensor]]:
        """IoU (B, p, G) of some priors at a time; -1 where the prior is not usable or the object is padding."""
        for some in self._parts(boxes, truth):
            overlaps = pairwise_iou(boxes[:, some], full_precision(truth.boxes))
            counts = usable[:, some, None] & truth.valid[:, None]
            yield some, torch.where(counts, overlaps, -1)

    def _in_crowd(self, boxes: Tensor, truth: Targets) -> Tensor:
        """(B, P) bool."""
        if self.ignore_iof is None:
            return torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
        shares = []
        for some in self._parts(boxes, truth):
            inside = pairwise_intersection(boxes[:, some], full_precision(truth.boxes))
            whole = areas(boxes[:, some])[:, :, None] if self.ignore_wrt_candidates else areas(truth.boxes)[:, None]
            shares.append((inside / whole.clamp(min=1e-6) * truth.crowd[:, None]).amax(2))
        return torch.cat(shares, 1) > self.ignore_iof

    def _parts(self, boxes: Tensor, truth: Targets) -> list[slice]:
        images, priors = boxes.shape[:2]
        return parts(priors, images * priors, truth.boxes.shape[1], self.max_pairs)
