"""Many lists of detections of one image to a single one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
from detcore.structures import Detections
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms

Array: TypeAlias = NDArray[Any]
Share = Annotated[float, Field(ge=0, le=1)]


class Merger(ABC):
    """Kind of what makes one list of detections of those of several views."""

    @abstractmethod
    def merge(self, views: Sequence[Detections]) -> Detections:
        """What each view found in one image, in the same pixels -> what is in it, best first."""


class NMSMerger(Merger):
    """Of boxes of a class that overlap, the best one stays as it is, with its mask, whichever view it comes from.

    Args:
        iou_threshold: An overlap above it is the same object.
    """

    def __init__(self, *, iou_threshold: Share = 0.5) -> None:
        self.iou_threshold = iou_threshold

    def merge(self, views: Sequence[Detections]) -> Detections:
        """See the class."""
        every = together(views)
        kept = batched_nms(every.boxes.float(), every.scores.float(), every.labels, self.iou_threshold)
        return every.each(lambda rows: rows[kept])


class WeightedBoxFusion(Merger):
    """Boxes that overlap become one, the mean of them by their scores (Solovyev et al. 2021, section 3).

    From the best box to the worst, each joins the cluster of its class whose fused box it overlaps most, if that is by
    more than ``iou_threshold``, else begins one of its own; the fused box is then that of the cluster as it is. A fused
    score is the mean of the cluster's T scores times min(T, N) / N, N the number of views (equation 5): what few views
    see counts less.

    A fused mask is the mean, by scores, of the probabilities that the cluster's masks give each of its places; a mask
    is zero outside of its box. Views that did not find an object have no say in its mask.

    Args:
        iou_threshold: As said.
        score_threshold: What scores less takes no part.
    """

    def __init__(self, *, iou_threshold: Share = 0.55, score_threshold: Share = 0.0) -> None:
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold

    def merge(self, views: Sequence[Detections]) -> Detections:
        """See the class. Float64 on the CPU: a box that nothing joins comes out as it went in."""
        every = together(views)
        order = every.scores.argsort(descending=True, stable=True)
        order = order[every.scores[order] >= self.score_threshold]
        every = every.each(lambda rows: rows[order])
        if not len(every):
            return every
        boxes, scores, labels = every.boxes.double().cpu(), every.scores.double().cpu(), every.labels.cpu()
        weights = scores.clamp(min=1e-12)  # boxes of no score have a mean, too
        cluster = clusters(boxes, weights, labels, self.iou_threshold)
        count = torch.bincount(cluster)
        total = summed(weights, cluster)
        fused = summed(weights[:, None] * boxes, cluster) / total[:, None]
        confidence = summed(scores, cluster) / count * count.clamp(max=len(views)) / len(views)
        best = confidence.argsort(descending=True, stable=True)
        device, kind = every.boxes.device, labels.new_zeros(len(count)).scatter(0, cluster, labels)
        masks = None
        if every.masks is not None:
            moved = moved_masks(every.masks, every.boxes, fused[cluster].to(every.boxes))
            share = (weights / total[cluster]).to(moved)
            masks = summed(share[:, None, None] * moved, cluster.to(device))[best.to(device)].to(every.masks)
        return Detections(fused[best].to(every.boxes), confidence[best].to(every.scores), kind[best].to(device), masks)


def together(views: Sequence[Detections]) -> Detections:
    """All detections in one record; masks only where none lacks one."""
    some = [each for each in views if len(each)] or views[:1]
    masks = [each.masks for each in some if each.masks is not None]
    return Detections(
        torch.cat([each.boxes for each in some]),
        torch.cat([each.scores for each in some]),
        torch.cat([each.labels for each in some]),
        torch.cat(masks) if len(masks) == len(some) else None,
    )


def clusters(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Which cluster each of D boxes falls into, (D,) int64 from 0.

    Args:
        boxes: (D, 4), best first.
        scores: (D,), above 0.
        labels: (D,).
        iou_threshold: See :class:`WeightedBoxFusion`.
    """
    found, first, kinds = np.zeros(len(labels), np.int64), 0, labels.numpy()
    for label in np.unique(kinds):
        rows = np.flatnonzero(kinds == label)
        own = _of_one_class(boxes.numpy()[rows], scores.numpy()[rows], iou_threshold)
        found[rows] = first + own
        first += int(own.max()) + 1
    return torch.from_numpy(found)


def _of_one_class(boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """Box by box, with numpy: hundreds of small steps, of which each costs torch several times as much."""
    count, used = len(boxes), 0
    found, total = np.zeros(count, np.int64), np.zeros(count)
    fused, areas = np.zeros((4, count)), np.zeros(count)
    for row, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        column = used
        if used:
            overlap = _overlaps(box, fused[:, :used], areas[:used])
            best = int(overlap.argmax())
            column = best if overlap[best] > iou_threshold else used
        used += column == used
        weight = total[column] + score
        fused[:, column] += (box - fused[:, column]) * (score / weight)
        total[column], found[row] = weight, column
        areas[column] = (fused[2, column] - fused[0, column]) * (fused[3, column] - fused[1, column])
    return found


def _overlaps(box: Array, others: Array, areas: Array) -> Array:
    """Intersection over union of a box (4,) with others (4, K); 0 where both are empty."""
    wide = np.minimum(others[2], box[2]) - np.maximum(others[0], box[0])
    high = np.minimum(others[3], box[3]) - np.maximum(others[1], box[1])
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    overlap: Array = shared / np.maximum((box[2] - box[0]) * (box[3] - box[1]) + areas - shared, 1e-12)
    return overlap


def summed(rows: Tensor, cluster: Tensor) -> Tensor:
    """(D, ...) rows -> (K, ...), the sum of the rows of each cluster."""
    return rows.new_zeros(int(cluster.max()) + 1, *rows.shape[1:]).index_add(0, cluster, rows)


def moved_masks(masks: Tensor, boxes: Tensor, into: Tensor) -> Tensor:
    """Mask probabilities (D, h, w) inside boxes (D, 4) as they are inside boxes ``into`` (D, 4), float32.

    Bilinear between the centres of the mask's cells, which zeros surround, as masks are pasted.
    """
    centres = [
        ((torch.arange(side, device=masks.device) + 0.5) / side).expand(len(masks), -1) for side in masks.shape[:0:-1]
    ]
    grid = []
    for axis, centre in enumerate(centres):  # x of the columns, y of the rows
        low, high = into[:, axis, None], into[:, axis + 2, None]
        begin, end = boxes[:, axis, None], boxes[:, axis + 2, None]
        grid.append(2 * (low + centre * (high - low) - begin) / (end - begin).clamp(min=1e-6) - 1)
    columns, rows = grid
    size = (len(masks), *masks.shape[1:])
    places = torch.stack([columns[:, None].expand(size), rows[:, :, None].expand(size)], -1)
    return F.grid_sample(masks.float()[:, None], places.float(), padding_mode="zeros", align_corners=False)[:, 0]
