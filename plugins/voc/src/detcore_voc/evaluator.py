"""Pascal VOC's average precision (Everingham et al., IJCV 2010), of any dataset.

The rules are those of the development kit (``VOCevaldet.m``, ``VOCap.m``): a detection belongs to the object of its
class in its image that it overlaps most; it is right where they overlap enough and no better-scored detection has been
right about the same object. One that belongs to an ignored object counts neither for nor against.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import attrs
import numpy as np
import numpy.typing as npt
import torch
from detcore.errors import ConfigError, DataError
from detcore.interfaces import Dataset, Evaluator
from detcore.structures import Detections
from torch import Tensor
from torchvision.ops import box_iou

Interpolation = Literal["area", "11-point"]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

UNDEFINED = -1.0
"""The figure of a class that has no object to be found; it is left out of the mean."""


@attrs.frozen(eq=False)
class Truth:
    """The objects of one image.

    Attributes:
        boxes: (G, 4) float64.
        labels: (G,) int64.
        ignored: (G,) bool, difficult ones and crowds.
        first: How many objects the images before have: object g of this image is object ``first + g`` of all.
    """

    boxes: Tensor
    labels: Tensor
    ignored: Tensor
    first: int


@attrs.frozen(eq=False)
class Judged:
    """The detections of one image.

    Attributes:
        scores: (D,).
        labels: (D,).
        objects: (D,) the object, of all images', that a detection belongs to; -1 where it overlaps none enough.
    """

    scores: Floats
    labels: Ints
    objects: Ints


class VOCEvaluator(Evaluator):
    """VOC's metrics: ``mAP``, the mean over classes, then ``AP_<class>`` of each.

    A class without an object to be found has -1 and is left out of the mean. Images that are never updated count as
    images in which nothing was found; of detections with the same score that of the dataset's earlier image comes
    first.

    Args:
        dataset: What is evaluated on. Ground truth comes from its ``annotations(index)`` where it has this method (a
            target without its image), else from its samples' targets; ``iscrowd`` marks the objects that are ignored,
            which are difficult ones where a ``VOCDataset`` has ``difficult = "ignore"``.
        iou_threshold: The least overlap of a right detection.
        interpolation: ``"area"``: the area under precision as a falling function of recall (VOC 2010 and later);
            ``"11-point"``: the mean of the best precision at a recall of 0, 0.1, ... 1 or more (VOC 2007).

    Raises:
        ConfigError: An interpolation that does not exist, or a threshold that is not above 0 and at most 1.
    """

    def __init__(self, dataset: Dataset, *, iou_threshold: float = 0.5, interpolation: Interpolation = "area") -> None:
        if interpolation not in ("area", "11-point"):
            raise ConfigError("VOCEvaluator: interpolation", f'"{interpolation}"', 'It is "area" or "11-point".')
        if not 0 < iou_threshold <= 1:
            raise ConfigError("VOCEvaluator: iou_threshold", f"{iou_threshold}", "It is above 0 and at most 1.")
        self.dataset = dataset
        self.iou_threshold = iou_threshold
        self.interpolation = interpolation
        self._judged: dict[int | str, Judged] = {}

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        """Take the detections of some images, in original pixels; of an image that comes again the last ones count.

        Raises:
            DataError: The dataset has no image with one of the ids.
        """
        for found, id_ in zip(detections, ids, strict=True):
            if id_ not in self.truth:
                raise DataError("VOCEvaluator", f"the dataset has no image {id_!r}")
            self._judged[id_] = _judge(found, self.truth[id_], self.iou_threshold)

    def compute(self) -> dict[str, float]:
        """All metrics by name, as fractions."""
        nothing = Judged(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
        judged = [nothing, *(self._judged[id_] for id_ in self.truth if id_ in self._judged)]
        scores = np.concatenate([each.scores for each in judged])
        labels = np.concatenate([each.labels for each in judged])
        objects = np.concatenate([each.objects for each in judged])
        truth_labels = np.concatenate([each.labels.numpy() for each in self.truth.values()])
        ignored = np.concatenate([each.ignored.numpy() for each in self.truth.values()])
        order = np.argsort(-scores, kind="stable")
        labels, objects = labels[order], objects[order]
        counted = ~np.append(ignored, False)[objects]
        figures = {}
        for label, name in enumerate(self.dataset.classes):
            chosen = objects[counted & (labels == label)]
            there = int(((truth_labels == label) & ~ignored).sum())
            figures[f"AP_{name}"] = average_precision(_right(chosen), there, self.interpolation)
        defined = [value for value in figures.values() if value != UNDEFINED]
        return {"mAP": float(np.mean(defined)) if defined else UNDEFINED, **figures}

    @cached_property
    def truth(self) -> dict[int | str, Truth]:
        """The ground truth by the dataset's ids, in its order, read when it is first needed."""
        target_of = getattr(self.dataset, "annotations", lambda index: self.dataset[index][1])
        truth: dict[int | str, Truth] = {}
        first = 0
        for index in range(len(self.dataset)):
            target: dict[str, Any] = target_of(index)
            id_ = target.get("image_id", index)
            id_ = int(id_) if isinstance(id_, Tensor) else id_
            if id_ in truth:
                raise DataError(
                    f"{type(self.dataset).__name__}: image {index}", f"an image before it has the id {id_!r} too"
                )
            labels = target["labels"]
            ignored = target["iscrowd"].bool() if "iscrowd" in target else torch.zeros_like(labels, dtype=torch.bool)
            truth[id_] = Truth(target["boxes"].as_subclass(Tensor).double(), labels, ignored, first)
            first += len(labels)
        return truth


def average_precision(right: Bools, objects: int, interpolation: Interpolation) -> float:
    """The average precision of a class.

    Args:
        right: (D,) whether a detection is right, best score first.
        objects: How many are to be found; with none it is -1.
        interpolation: See :class:`VOCEvaluator`.
    """
    if not objects:
        return UNDEFINED
    hits = right.cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or more
    if interpolation == "area":
        return float(best[right].sum() / objects)
    at = np.searchsorted(10 * hits, objects * np.arange(11))  # in whole numbers: 3 of 10 is a recall of 0.3
    return float(np.append(best, 0.0)[at].sum() / 11)


def _judge(found: Detections, truth: Truth, threshold: float) -> Judged:
    boxes, labels = found.boxes.detach().cpu().double(), found.labels.cpu()
    objects = torch.full_like(labels, -1)
    if len(found) and len(truth.labels):
        overlap = box_iou(boxes, truth.boxes) * (labels[:, None] == truth.labels)
        most, which = overlap.max(1)
        objects = torch.where(most >= threshold, truth.first + which, -1)
    return Judged(found.scores.detach().cpu().double().numpy(), labels.numpy(), objects.numpy())


def _right(objects: Ints) -> Bools:
    """(D,) whether a detection, best first, has an object and is the first one that has it."""
    right = np.zeros(len(objects), np.bool_)
    right[np.unique(objects, return_index=True)[1]] = True
    return right & (objects >= 0)
