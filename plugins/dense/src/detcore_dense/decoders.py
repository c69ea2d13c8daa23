"""From predictions to detections: the best per level, decoded, clipped, and freed of duplicates by NMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import attrs
import torch
from detcore.errors import ConfigError, did_you_mean
from detcore.interfaces import Decoder
from detcore.structures import Batch, Detections, Predictions, clip_boxes
from torch import Tensor
from torchvision import ops

from detcore_dense.boxes import larger_than

Overrides = Mapping[str, int | float | bool | None]
Settings = TypeVar("Settings", bound=attrs.AttrsInstance)
BLOCK = 32
"""Scores of which the best is looked for first, where there are many."""


# -------------------------------------------------------------------------------------------------- plain functions


def best_per_level(scores: Tensor, per_level: Sequence[int], count: int | None) -> Tensor:
    """The ``count`` best of each level, as (B, K) indices in ascending order.

    Ascending, so that :func:`nms` puts equal scores in the order of the priors.

    Args:
        scores: (B, N), level after level.
        per_level: How many of the N each level has.
        count: None is all.
    """
    start, kept = 0, []
    for size in per_level:
        level = scores[:, start : start + size]
        kept.append(_best(level, size if count is None else min(count, size)) + start)
        start += size
    return torch.cat(kept, 1).sort().values


def _best(scores: Tensor, count: int) -> Tensor:
    """The ``count`` best of each row (B, N), as (B, count) indices.

    Of many, they lie in those ``count`` blocks of a row whose maxima are the best, so that only these are ordered.
    """
    total = scores.shape[1]
    blocks = total // BLOCK
    if blocks < 2 * count:
        return scores.topk(count).indices
    maxima = scores[:, : blocks * BLOCK].reshape(-1, blocks, BLOCK).amax(-1)
    first = maxima.topk(count).indices[..., None] * BLOCK
    index = (first + torch.arange(BLOCK, device=first.device)).flatten(1)
    rest = torch.arange(blocks * BLOCK, total, device=first.device).expand(len(index), -1)
    index = torch.cat([index, rest], 1)
    return index.gather(1, scores.gather(1, index).topk(count).indices)


def nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, count: int | None) -> Tensor:
    """Which boxes stay, best first; of equal scores the first goes first.

    Args:
        boxes: (K, 4).
        scores: (K,), anything that says which is better.
        groups: (K,) int64; only boxes of the same group suppress each other.
        threshold: A box goes where its IoU with a better one exceeds this.
        count: At most so many stay; None is all.
    """
    suppress = _nms_of_graphs if torch.compiler.is_compiling() else ops.batched_nms
    kept: Tensor = suppress(boxes, scores, groups, threshold).sort().values
    best = scores[kept].sort(descending=True, stable=True).indices
    return kept[best[:count]]


def _nms_of_graphs(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """torchvision's ``batched_nms`` where nobody knows yet how many boxes there are: it would ask.

    Groups are moved apart, however many boxes there are. Two boxes that nothing touches go first: torchvision tells who
    makes graphs that at least two are kept.
    """
    apart = boxes.new_tensor([[-4, -4, -3, -3], [-2, -2, -1, -1]])
    boxes, groups = torch.cat([apart, boxes]), torch.cat([groups.new_zeros(2), groups])
    scores = torch.cat([scores.new_full((2,), -torch.inf), scores])
    kept: Tensor = ops.nms(boxes + (groups * (boxes.max() + 1))[:, None], scores, threshold)
    return kept[kept >= 2] - 2


def suppression_places(boxes: Tensor, side: int) -> Tensor:
    """The boxes where NMS compares them: none left of or above 0, none more than a side beyond the image.

    NMS keeps classes apart by moving them beyond the largest coordinate: boxes left of 0 would reach into the class
    before, and one huge box would cost all others their precision.
    """
    return boxes.clamp(-side, 2 * side) + side


def overridden(settings: Settings, overrides: Overrides | None, where: str) -> Settings:
    """``settings`` with ``overrides``.

    Raises:
        ConfigError: One of them is not a setting.
    """
    known = [field.name for field in attrs.fields(type(settings))]
    for name in overrides or {}:
        if name not in known:
            fix = did_you_mean(name, known) or f"It takes: {', '.join(known)}."
            raise ConfigError(f"{where}.{name}", "not a setting of this decoder", fix)
    return attrs.evolve(settings, **(overrides or {}))  # type: ignore[misc]


# --------------------------------------------------------------------------------------------- detections of classes


@attrs.frozen
class _NMSSettings:
    score_threshold: float
    nms_pre: int | None
    nms_iou: float
    max_detections: int | None
    min_size: float
    class_agnostic: bool


class NMSDecoder(Decoder):
    """Score threshold, the best per level, clipping, NMS per class, the best of the image.

    A prior may give a detection of each class. Of equal scores the one on the shallower level, then the upper left one,
    comes first.

    Args:
        score_threshold: A class probability must exceed it.
        nms_pre: At most so many pairs of prior and class per level; None is all.
        nms_iou: A detection goes where its IoU with a better one of its class exceeds this.
        max_detections: At most so many per image; None is all.
        min_size: Width and height must exceed it, input pixels.
        quality: Raw output (centerness, predicted IoU, ...) whose sigmoid multiplies the probabilities of those that
            the threshold and ``nms_pre`` have left.
        class_agnostic: Detections suppress each other whatever their class.
        geometric: Scores are the geometric mean of probability and quality, which the threshold and ``nms_pre`` read,
            too (torchvision's FCOS).
        train: The first five and ``class_agnostic`` where proposals for training are asked for.

    Raises:
        ConfigError: ``train`` holds something else; ``geometric`` without ``quality``.
    """

    def __init__(
        self,
        *,
        score_threshold: float = 0.05,
        nms_pre: int | None = 1000,
        nms_iou: float = 0.5,
        max_detections: int | None = 100,
        min_size: float = 0.0,
        quality: str | None = None,
        class_agnostic: bool = False,
        geometric: bool = False,
        train: Overrides | None = None,
    ) -> None:
        super().__init__()
        if geometric and quality is None:
            fix = 'Give it (FCOS: quality = "centerness").'
            raise ConfigError("geometric", "there is no quality that scores are a mean with", fix)
        self.quality = quality
        self.geometric = geometric
        self.settings = _NMSSettings(score_threshold, nms_pre, nms_iou, max_detections, min_size, class_agnostic)
        self.train_settings = overridden(self.settings, train, "train")

    def forward(self, predictions: Predictions, batch: Batch, *, train: bool = False) -> list[Detections]:
        """Per image the detections, in input pixels, best first."""
        settings = self.train_settings if train else self.settings
        ranks, are_logits = self._ranks(predictions)
        classes = ranks.shape[-1]
        pairs = [size * classes for size in predictions.priors.per_level]
        chosen = best_per_level(ranks.flatten(1), pairs, settings.nms_pre)
        index, labels = chosen // classes, chosen % classes
        scores = ranks.flatten(1).gather(1, chosen).float()
        scores = scores.sigmoid() if are_logits else scores
        boxes = clip_boxes(predictions.boxes(index), batch.sizes[:, None])
        keep = (scores > settings.score_threshold) & larger_than(boxes, settings.min_size)
        if self.quality is not None and not self.geometric:
            scores = scores * predictions.flat(self.quality)[..., 0].gather(1, index).float().sigmoid()
        return [
            _detections(boxes[image, kept], scores[image, kept], labels[image, kept], settings)
            for image, kept in enumerate(keep)
        ]

    def _ranks(self, predictions: Predictions) -> tuple[Tensor, bool]:
        """What pairs (B, P, C) are chosen by; and whether a sigmoid makes scores of it, which only few need then."""
        if self.geometric and self.quality is not None:
            return (predictions.scores * predictions.flat(self.quality).float().sigmoid()).sqrt(), False
        return (predictions.scores, False) if predictions.softmax else (predictions.flat("cls"), True)


def _detections(boxes: Tensor, scores: Tensor, labels: Tensor, settings: _NMSSettings) -> Detections:
    groups = torch.zeros_like(labels) if settings.class_agnostic else labels
    kept = nms(boxes, scores, groups, settings.nms_iou, settings.max_detections)
    return Detections(boxes[kept], scores[kept], labels[kept])


# ------------------------------------------------------------------------------------------------ proposals of an RPN


@attrs.frozen
class _RPNSettings:
    nms_pre: int | None
    nms_iou: float
    max_proposals: int | None
    min_size: float


class RPNDecoder(Decoder):
    """Proposals of a region proposal network (Ren et al. 2015, section 3.3; with a pyramid: Lin et al. 2017).

    The best objectness per level, clipped, NMS within each level, the best of the image.

    Args:
        nms_pre: At most so many per level; None is all.
        nms_iou: A proposal goes where its IoU with a better one of its level exceeds this.
        max_proposals: At most so many per image; None is all.
        min_size: Width and height must exceed it, input pixels.
        train: Any of these, where proposals for training are asked for.

    Raises:
        ConfigError: ``train`` holds something else.
    """

    def __init__(
        self,
        *,
        nms_pre: int | None = 1000,
        nms_iou: float = 0.7,
        max_proposals: int | None = 1000,
        min_size: float = 0.0,
        train: Overrides | None = None,
    ) -> None:
        super().__init__()
        self.settings = _RPNSettings(nms_pre, nms_iou, max_proposals, min_size)
        self.train_settings = overridden(self.settings, train, "train")

    def forward(self, predictions: Predictions, batch: Batch, *, train: bool = False) -> list[Detections]:
        """Per image the proposals, all of label 0, in input pixels, best first."""
        settings = self.train_settings if train else self.settings
        objectness = _log_odds(predictions)
        index = best_per_level(objectness, predictions.priors.per_level, settings.nms_pre)
        objectness, level = objectness.gather(1, index), predictions.priors.level[index]
        boxes = clip_boxes(predictions.boxes(index), batch.sizes[:, None])
        keep = larger_than(boxes, settings.min_size)
        return [
            _proposals(boxes[image, kept], objectness[image, kept], level[image, kept], settings)
            for image, kept in enumerate(keep)
        ]


def _log_odds(predictions: Predictions) -> Tensor:
    """(B, P) logits of "an object": they tell apart what a sigmoid rounds to 1."""
    logits = predictions.flat("cls").float()
    return logits[..., 0] - logits[..., 1:].logsumexp(-1) if predictions.softmax else logits[..., 0]


def _proposals(boxes: Tensor, objectness: Tensor, level: Tensor, settings: _RPNSettings) -> Detections:
    kept = nms(boxes, objectness, level, settings.nms_iou, settings.max_proposals)
    return Detections(boxes[kept], objectness[kept].sigmoid(), torch.zeros_like(level[kept]))
