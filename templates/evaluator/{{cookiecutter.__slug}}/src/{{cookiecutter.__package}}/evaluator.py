"""F1: one figure for a detector whose detections above a score are all that somebody will see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detcore.errors import ConfigError, DataError
from detcore.interfaces import Dataset, Evaluator
from detcore.structures import Detections
from torch import Tensor
from torchvision.ops import box_iou


class {{ cookiecutter.__class }}(Evaluator):
    """``F1``, ``precision`` and ``recall`` of detections that score enough.

    Best first, a detection is right where it overlaps an object of its class enough that no better one has found; else
    it is wrong. Crowds (``iscrowd``) are not to be found, and a wrong detection that overlaps one enough is left out.

    Args:
        dataset: What is evaluated on; objects come from its ``annotations(index)`` where it has this method, else from
            its samples.
        score: The least that counts.
        iou: The least overlap.

    Raises:
        ConfigError: One of the two is not between 0 and 1.
    """

    def __init__(self, dataset: Dataset, *, score: float = 0.3, iou: float = 0.5) -> None:
        if not (0 <= score <= 1 and 0 < iou <= 1):
            raise ConfigError("score, iou", f"{score} and {iou}", "Give numbers from 0 to 1, and an iou above 0.")
        self.score = score
        self.iou = iou
        targets = [_target(dataset, index) for index in range(len(dataset))]
        self.truth = {_id(target, index): target for index, target in enumerate(targets)}
        self.objects = {id_: int((~_crowd(target)).sum()) for id_, target in self.truth.items()}
        self.counts: dict[int | str, tuple[int, int]] = {}

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        """Take the detections of some images, in original pixels; of an image that comes again the last ones count.

        Raises:
            DataError: The dataset has no image with one of the ids.
        """
        for found, id_ in zip(detections, ids, strict=True):
            if id_ not in self.truth:
                raise DataError(type(self).__name__, f"the dataset has no image {id_!r}")
            self.counts[id_] = self._count(found, self.truth[id_])

    def compute(self) -> dict[str, float]:
        """All metrics by name, the main one first; images that never came are ones in which nothing was found."""
        right = sum(count[0] for count in self.counts.values())
        wrong = sum(count[1] for count in self.counts.values())
        objects = sum(self.objects.values())
        precision, recall = right / max(right + wrong, 1), right / max(objects, 1)
        f1 = 2 * right / max(right + wrong + objects, 1)
        return {"F1": f1, "precision": precision, "recall": recall}

    def _count(self, found: Detections, target: dict[str, Any]) -> tuple[int, int]:
        """How many detections of an image are right, and how many are wrong."""
        boxes, crowd = target["boxes"].as_subclass(Tensor), _crowd(target)
        found = found.each(lambda rows: rows[found.scores >= self.score])
        overlap = box_iou(found.boxes, boxes) * (found.labels[:, None] == target["labels"])
        overlap = overlap[found.scores.argsort(descending=True, stable=True)]
        right = wrong = 0
        for row in overlap:
            of_objects = row.masked_fill(crowd, 0)
            if len(row) and of_objects.max() >= self.iou:
                overlap[:, of_objects.argmax()] = 0  # it is found: no other detection is right about it
                right += 1
            elif not (row[crowd] >= self.iou).any():
                wrong += 1
        return right, wrong


def _target(dataset: Dataset, index: int) -> dict[str, Any]:
    annotations = getattr(dataset, "annotations", None)
    target: dict[str, Any] = annotations(index) if annotations else dataset[index][1]
    return target


def _id(target: dict[str, Any], index: int) -> int | str:
    id_: int | str = target.get("image_id", index)
    return int(id_) if isinstance(id_, Tensor) else id_


def _crowd(target: dict[str, Any]) -> Tensor:
    """(G,) bool."""
    crowd: Tensor = target.get("iscrowd", torch.zeros(len(target["labels"])))
    return crowd.bool()
