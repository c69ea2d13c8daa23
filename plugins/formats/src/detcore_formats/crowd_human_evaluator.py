"""CrowdHuman's figures: average precision, miss rate and Jaccard index of one class.

AP and the log-average miss rate MR^-2 are those of Shao et al., "CrowdHuman: A Benchmark for Detecting Human in a
Crowd" (2018), section 4; the miss rate is from Dollar et al., "Pedestrian Detection: An Evaluation of the State of the
Art" (PAMI 2012), the Jaccard index from Chu et al., "Detection in Crowded Scenes: One Proposal, Multiple Predictions"
(CVPR 2020), section 4. What they leave open is as in the code that was published with the last one:

* A detection, best first, takes the person who is still free and whom it overlaps most, by more than the threshold;
  where there is none, it is left out if more than that share of it is inside an ignored region, else it is wrong.
* AP is the area under the points of precision over recall, joined by straight lines; left of the first point there is
  none, so that N people who are all found, and nobody else, are 1 - 1 / N.
* The miss rate at one of nine numbers of false positives an image is that of the first point that has so many, or of
  the last one; MR^-2 is their geometric mean, 0 where one of them is 0.
* The Jaccard index of an image is that of the largest matching between people and detections that overlap by the
  threshold at least; who of the others is inside an ignored region by more than it is not there. The mean over images
  in which anything is left is computed of detections that score more than 0, 0.1, ... 0.9, and the largest one taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from detcore.errors import ConfigError, DataError
from detcore.interfaces import Dataset, Evaluator
from detcore.results import image_ids, targets
from detcore.structures import Detections
from torch import Tensor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FALSE_POSITIVES = (0.01, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0)
"""Of an image: nine from 10^-2 to 10^0, as far from each other in logarithm, and rounded."""
SCORES = tuple(step / 10 for step in range(10))
"""Above which detections are taken for the Jaccard index."""
TINY = 1e-6
"""Added to what the Jaccard index divides by."""
UNDEFINED = -1.0
"""AP and miss rate where there is nobody to be found."""


@attrs.frozen(eq=False)
class Truth:
    """The annotations of an image.

    Attributes:
        people: (G, 4) those to be found.
        ignored: (I, 4) regions in which detections count neither for nor against.
        size: Width and height.
    """

    people: Floats
    ignored: Floats
    size: Floats


@attrs.frozen(eq=False)
class Judged:
    """The detections of an image.

    Attributes:
        scores: (D,) of those that count, best first.
        right: (D,) whether they are.
        jaccard: (10,) the image's index by ``SCORES``.
        there: (10,) whether the image counts for it: it has a person or a detection.
    """

    scores: Floats
    right: Bools
    jaccard: Floats
    there: Bools


class CrowdHumanEvaluator(Evaluator):
    """CrowdHuman's metrics: ``AP``, ``MR`` (log-average miss rate MR^-2, lower is better), ``JI`` (Jaccard index).

    Of whole people, their visible parts or heads, as the dataset's ``box`` says; ``iscrowd`` marks ignored regions.
    Without any detection AP and JI are 0 and MR is 1; where nobody is to be found AP and MR are -1. Images that are
    never updated count as images in which nothing was found. Of detections with the same score that of the dataset's
    earlier image comes first.

    Args:
        dataset: Of one class: a ``CrowdHumanDataset`` or another, from its ``annotations(index)`` where it has it.
        iou_threshold: The overlap that is needed.

    Raises:
        ConfigError: A threshold that is not above 0 and below 1.
        DataError: The dataset has several classes.
    """

    def __init__(self, dataset: Dataset, *, iou_threshold: float = 0.5) -> None:
        if not 0 < iou_threshold < 1:
            raise ConfigError("CrowdHumanEvaluator: iou_threshold", f"{iou_threshold}", "It is above 0 and below 1.")
        if len(dataset.classes) != 1:
            found = f"the dataset has {len(dataset.classes)} classes"
            raise DataError("CrowdHumanEvaluator", found, "It scores one: name it in classes.")
        self.dataset = dataset
        self.iou_threshold = iou_threshold
        self._judged: dict[int | str, Judged] = {}

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        """Take the detections of some images, in original pixels; of an image that comes again the last ones count.

        Raises:
            DataError: The dataset has no image with one of the ids.
        """
        for found, id_ in zip(detections, ids, strict=True):
            if id_ not in self.truth:
                raise DataError("CrowdHumanEvaluator", f"the dataset has no image {id_!r}")
            boxes, scores = (each.detach().cpu().double().numpy() for each in (found.boxes, found.scores))
            self._judged[id_] = judge(boxes, scores, self.truth[id_], self.iou_threshold)

    def compute(self) -> dict[str, float]:
        """All metrics by name."""
        nothing = np.zeros((0, 4)), np.zeros(0)
        judged = [
            self._judged.get(id_) or judge(*nothing, truth, self.iou_threshold) for id_, truth in self.truth.items()
        ]
        scores = np.concatenate([np.zeros(0), *(each.scores for each in judged)])
        right = np.concatenate([np.zeros(0, np.bool_), *(each.right for each in judged)])
        right = right[np.argsort(-scores, kind="stable")]
        people = sum(len(truth.people) for truth in self.truth.values())
        there = np.sum([each.there for each in judged], 0)
        index = np.sum([each.jaccard for each in judged], 0) / np.maximum(there, 1)
        return {
            "AP": average_precision(right, people),
            "MR": miss_rate(right, people, len(self.truth)),
            "JI": float(np.max(index)),
        }

    @cached_property
    def truth(self) -> Mapping[int | str, Truth]:
        """The ground truth by the dataset's ids, in its order, read when it is first needed.

        Raises:
            DataError: Two images have the same id.
        """
        ids = image_ids(self.dataset)
        truth = {id_: _truth(target) for id_, target in zip(ids, targets(self.dataset), strict=True)}
        if len(truth) < len(ids):
            twice = next(id_ for row, id_ in enumerate(ids) if id_ in ids[:row])
            raise DataError(type(self.dataset).__name__, f"two images have the id {twice!r}")
        return truth


def average_precision(right: Bools, people: int) -> float:
    """The area under precision over recall, between detections.

    Args:
        right: (D,) of the detections that count, best first.
        people: To be found.
    """
    if not len(right):
        return 0.0
    if not people:
        return UNDEFINED
    hits = right.cumsum()
    precision, recall = hits / np.arange(1, len(right) + 1), hits / people
    return float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())


def miss_rate(right: Bools, people: int, images: int) -> float:
    """The log-average miss rate; arguments as above, and how many images there are."""
    if not len(right):
        return 1.0
    if not people:
        return UNDEFINED
    missed, wrong = 1 - right.cumsum() / people, (~right).cumsum() / images
    at = np.searchsorted(wrong, FALSE_POSITIVES).clip(max=len(right) - 1)
    with np.errstate(divide="ignore"):  # nobody is missed: exp(-inf) is 0
        return float(np.exp(np.log(missed[at]).mean()))


def judge(boxes: Floats, scores: Floats, truth: Truth, threshold: float) -> Judged:
    """What the detections (D, 4) of an image with ``scores`` (D,) are worth."""
    order = np.argsort(-scores, kind="stable")
    boxes, scores = _clipped(boxes[order], truth.size), scores[order]
    overlap = _shared(boxes, truth.people) / np.maximum(_union(boxes, truth.people), TINY)
    inside = _inside(boxes, truth.ignored) > threshold
    takes = _take(overlap, threshold)
    counts = (takes >= 0) | ~inside
    absent = _inside(truth.people, truth.ignored) > threshold
    jaccard, there = _jaccard(overlap >= threshold, scores, inside, absent)
    return Judged(scores[counts], takes[counts] >= 0, jaccard, there)


def _take(overlap: Floats, threshold: float) -> Ints:
    """(D,) the person that each detection takes, best first: the free one whom it overlaps most; -1: nobody."""
    takes = np.full(len(overlap), -1)
    free = overlap.copy()
    for row in np.flatnonzero((overlap > threshold).any(1)).tolist():
        most = int(free[row].argmax())
        if free[row, most] > threshold:
            takes[row] = most
            free[:, most] = 0
    return takes


def _jaccard(near: Bools, scores: Floats, inside: Bools, absent: Bools) -> tuple[Floats, Bools]:
    """The index of an image by ``SCORES``, and whether it counts.

    Args:
        near: (D, G) what may be matched; detections best first.
        scores: (D,).
        inside: (D,) which detections are in an ignored region.
        absent: (G,) who is in one.
    """
    index, there = np.zeros(len(SCORES)), np.zeros(len(SCORES), np.bool_)
    detection_of: dict[int, int] = {}
    done = 0
    for step in reversed(range(len(SCORES))):
        taken = int((scores > SCORES[step]).sum())
        for row in range(done, taken):
            _match(row, near, detection_of, set())
        done = taken
        alone = np.ones(taken, np.bool_)
        alone[[*detection_of.values()]] = False
        missed = np.ones(len(absent), np.bool_)
        missed[[*detection_of]] = False
        both = len(detection_of)
        people = len(absent) - int((missed & absent).sum())
        found = taken - int((alone & inside[:taken]).sum())
        index[step] = both / (people + found - both + TINY)
        there[step] = people + found > 0
    return index, there


def _match(row: int, near: Bools, detection_of: dict[int, int], seen: set[int]) -> bool:
    """Find a person for a detection, moving others to people who are free (Kuhn's algorithm)."""
    for person in np.flatnonzero(near[row]).tolist():
        if person in seen:
            continue
        seen.add(person)
        if person not in detection_of or _match(detection_of[person], near, detection_of, seen):
            detection_of[person] = row
            return True
    return False


def _truth(target: Mapping[str, Any]) -> Truth:
    boxes = target["boxes"].as_subclass(Tensor).double().numpy()
    crowd = target["iscrowd"].bool().numpy() if "iscrowd" in target else np.zeros(len(boxes), np.bool_)
    size = np.array(target["boxes"].canvas_size[::-1], np.float64)
    boxes = _clipped(boxes, size)
    return Truth(boxes[~crowd], boxes[crowd], size)


def _clipped(boxes: Floats, size: Floats) -> Floats:
    """Boxes (N, 4) without what is outside the image; the left and upper edge stay on its last pixel."""
    return np.concatenate([boxes[:, :2].clip(0, size - 1), boxes[:, 2:].clip(0, size)], 1)


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    return areas


def _shared(boxes: Floats, others: Floats) -> Floats:
    """(N, M) areas that are in both."""
    begin, end = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    areas: Floats = (end - begin).clip(0).prod(2)
    return areas


def _union(boxes: Floats, others: Floats) -> Floats:
    """(N, M) areas that are in either."""
    return _areas(boxes)[:, None] + _areas(others) - _shared(boxes, others)


def _inside(boxes: Floats, regions: Floats) -> Floats:
    """(N,) the largest share of each box that is in one of the regions."""
    if not len(regions):
        return np.zeros(len(boxes))
    share: Floats = (_shared(boxes, regions) / np.maximum(_areas(boxes), TINY)[:, None]).max(1)
    return share
