"""LVIS's average precision: only what was looked for in an image counts for or against what is found in it.

The rules are those of LVIS's own code, version 1 (Gupta, Dollár, Girshick, "LVIS: A Dataset for Large Vocabulary
Instance Segmentation", CVPR 2019, section 3.1). What differs from COCO's:

* of an image the best 300 detections count, of all classes together;
* a detection of a class that is neither annotated in its image nor listed there as verified to be absent is left out;
* one of a class that is listed as not exhaustively annotated, and that matches nothing, is no false positive;
* means are over the classes that have objects, also of those that are rare, common or frequent in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import attrs
import numpy as np
from detcore.errors import ConfigError, DataError
from detcore.interfaces import Dataset
from detcore.results import Row, targets
from detcore_coco.evaluator import CocoEvaluator, Scores, accumulated, mean
from detcore_coco.truth import Truth, ground_truth

from detcore_lvis.dataset import LISTS, LVISDataset

LVISMetric = Literal["bbox", "segm"]

MOST = 300
"""Detections of an image that count."""
PAIRS = 2_000_000
"""Of images and classes that are scored at once: the engine keeps lists for each, and LVIS has 24 million."""
FREQUENCIES = ("r", "c", "f")
"""Rare, common, frequent: in 1 to 10, 11 to 100, and more than 100 images of the training set."""
NAMES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"),
    *("AR300", "ARs300", "ARm300", "ARl300"),
)
"""LVIS's figures in its order, which prints the last four as ``AR@300``, ``ARs@300``, ...; s, m and l are objects below
32^2, below 96^2 and above, in pixels of area."""


class LVISEvaluator(CocoEvaluator):
    """LVIS's metrics: ``bbox_AP``, ..., ``bbox_APr``, ``segm_AR300``; with ``per_class`` also ``bbox_AP/cat``.

    A figure that LVIS leaves undefined (``APr`` where no rare class has an object) is -1, as LVIS has it. Without any
    detection all figures are 0. Images that are never updated count as images in which nothing was found.

    Args:
        dataset: An ``LVISDataset``, or a part of one.
        metrics: Of ``"bbox"`` and ``"segm"``, in order. ``"segm"`` wants ``polygons`` or ``masks`` in targets and masks
            in detections.
        per_class: Whether the average precision of each class is given too; LVIS has 1203.

    Raises:
        ConfigError: No metrics, or one that does not exist.
    """

    def __init__(self, dataset: Dataset, *, metrics: Sequence[LVISMetric] = ("bbox",), per_class: bool = False) -> None:
        if not metrics or not {*metrics} <= {*get_args(LVISMetric)}:
            fix = f"It lists one or more of: {', '.join(get_args(LVISMetric))}."
            raise ConfigError("LVISEvaluator: metrics", f"{list(metrics)}", fix)
        super().__init__(dataset, metrics=metrics, per_class=per_class)

    @cached_property
    def truth(self) -> Truth:
        """The ground truth with what was looked for, made when it is first needed.

        Raises:
            DataError: The dataset does not say what was looked for, or how frequent classes are.
        """
        frequencies = getattr(self.dataset, "frequencies", None)
        if frequencies is None:
            found = f"{type(self.dataset).__name__} does not say which classes were looked for in an image"
            raise DataError("LVISEvaluator", found, "It scores an LVISDataset; others have CocoEvaluator.")
        truth = ground_truth(self.dataset, outlines="segm" in self.metrics)
        ids, content = truth.category_ids, truth.content
        images = [
            {**image, **{name: [ids[label] for label in lists[key].tolist()] for key, name in LISTS.items()}}
            for image, lists in zip(content["images"], self._lists(), strict=True)
        ]
        categories = [
            {**category, "frequency": frequency}
            for category, frequency in zip(content["categories"], frequencies, strict=True)
        ]
        return attrs.evolve(truth, content={**content, "images": images, "categories": categories})

    def score(self, rows: Sequence[Row], metric: str) -> Scores:
        """The figures of rows whose images have the numbers of :attr:`truth`."""
        return evaluate(self.truth.content, rows, metric)

    def _lists(self) -> Any:
        """Per image, in order, its lists of labels; not its outlines where that can be helped."""
        if isinstance(self.dataset, LVISDataset):
            return map(self.dataset.lists, range(len(self.dataset)))
        return targets(self.dataset)


def best(rows: Sequence[Row]) -> list[Row]:
    """The rows of each image that count: the best, whatever their class; of equal ones those that come first."""
    images: dict[int, list[Row]] = {}
    for row in rows:
        images.setdefault(row["image_id"], []).append(row)
    ordered = (sorted(each, key=lambda row: -row["score"])[:MOST] for each in images.values())
    return [row for each in ordered for row in each]


def looked_for(truth: Mapping[str, Any], rows: Sequence[Row]) -> list[Row]:
    """The rows of classes that are annotated in their image or verified to be absent from it."""
    known = {(image["id"], id_) for image in truth["images"] for id_ in image["neg_category_ids"]}
    known |= {(each["image_id"], each["category_id"]) for each in truth["annotations"]}
    return [row for row in rows if (row["image_id"], row["category_id"]) in known]


def evaluate(truth: Mapping[str, Any], rows: Sequence[Row], metric: str) -> Scores:
    """Scores of results against an instances table of LVIS; zeros where there are no results.

    Args:
        truth: ``images`` with both lists of category ids, ``annotations``, ``categories`` with their ``frequency``.
        rows: Any number of an image.
        metric: ``"bbox"`` or ``"segm"``.
    """
    frequency = {category["id"]: category["frequency"] for category in truth["categories"]}
    if not rows:
        return Scores(dict.fromkeys(NAMES, 0.0), dict.fromkeys(frequency, 0.0))
    counted, ids = looked_for(truth, best(rows)), sorted(frequency)
    few = max(1, PAIRS // max(len(truth["images"]), 1))
    parts = [_accumulated(truth, counted, metric, ids[at : at + few]) for at in range(0, len(ids), few)]
    precision = np.concatenate([part["precision"][..., -1] for part in parts], 2)
    recall = np.concatenate([part["recall"][..., -1] for part in parts], 1)
    every = precision[:, :, :, 0]  # (10 IoUs, 101 recalls, classes) of objects of all sizes
    groups = [[place for place, id_ in enumerate(ids) if frequency[id_] == each] for each in FREQUENCIES]
    values = [
        *(every, every[0], every[5]),
        *(precision[:, :, :, size] for size in (1, 2, 3)),
        *(every[:, :, group] for group in groups),
        *(recall[:, :, size] for size in range(4)),
    ]
    figures = dict(zip(NAMES, map(mean, values), strict=True))
    return Scores(figures, {id_: mean(every[:, :, place]) for place, id_ in enumerate(ids)})


def _accumulated(truth: Mapping[str, Any], rows: Sequence[Row], metric: str, ids: Sequence[int]) -> Mapping[str, Any]:
    """Precision (IoUs, recalls, classes, sizes, 1) and recall (IoUs, classes, sizes, 1) of some of the classes."""
    own = {*ids}
    some = {
        **truth,
        "annotations": [each for each in truth["annotations"] if each["category_id"] in own],
        "categories": [each for each in truth["categories"] if each["id"] in own],
    }
    found = [row for row in rows if row["category_id"] in own]
    done = accumulated(some, found, metric, "faster", most=[MOST], lvis_style=True)
    return {name: np.asarray(done.eval[name]) for name in ("precision", "recall")}
