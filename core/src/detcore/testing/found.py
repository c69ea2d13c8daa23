"""What holds for the detections of every head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detcore.data import seeded
from detcore.structures import Batch, Detections
from detcore.testing.compare import ConformanceError, kind


def check_found(name: str, found: Sequence[Detections], batch: Batch, classes: int, when: str = "") -> None:
    """A record per image, each sound."""
    if len(found) != len(batch):
        raise ConformanceError(name, f"{len(found)} detections of {len(batch)} images", "One record per image.")
    for image, (each, size) in enumerate(zip(found, batch.sizes, strict=True)):
        if problem := _problem(each, size, classes):
            of = f"detections of image {image} {when}".rstrip()
            raise ConformanceError(name, f"{of}: {problem[0]}", problem[1])


def _problem(found: Detections, size: Tensor, classes: int) -> tuple[str, str] | None:
    boxes, scores, labels = found.boxes, found.scores, found.labels
    shapes = f"boxes {kind(boxes)}, scores {kind(scores)}, labels {kind(labels)}"
    count = len(scores)
    if shapes != f"boxes ({count}, 4) float32, scores ({count},) float32, labels ({count},) int64":
        return shapes, "They are boxes (D, 4) float32, scores (D,) float32, labels (D,) int64."
    if not (boxes.isfinite().all() and scores.isfinite().all()):
        return "a number is not finite", "Clip what is decoded."
    if (scores.diff() > 0).any():
        return "scores are not sorted", "The best is first."
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        return f"labels are {int(labels.min())} to {int(labels.max())}", f"They are 0 to {classes - 1}."
    height, width = size.tolist()
    if (boxes < 0).any() or (boxes > torch.tensor([width, height, width, height])).any():
        return f"a box is outside the image of {height:g} x {width:g}", "Clip them to batch.sizes."
    if (boxes[:, 2:] < boxes[:, :2]).any():
        return "a box ends before it begins", "They are x1, y1, x2, y2."
    if found.masks is not None and (found.masks.dim() != 3 or len(found.masks) != count):
        return f"masks are {kind(found.masks)} of {count} boxes", "They are (D, h, w) probabilities inside the boxes."
    return None


def found_something(head: Any, find: Callable[[], Sequence[Detections]]) -> Sequence[Detections]:
    """What a head finds, its weights disturbed until that is something: a fresh one may rightly find nothing."""
    for noise in (0.0, 0.01, 0.03, 0.1, 0.3):
        with seeded(3), torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
        found = find()
        if any(map(len, found)):
            return found
    found_nothing = "finds nothing in eval mode, even with random weights, so its detections cannot be checked"
    raise ConformanceError(type(head).__name__, found_nothing, "Give it a lower score threshold in this test.")


def check_alone(name: str, found: Sequence[Detections], alone: Sequence[Detections]) -> None:
    """What is found in an image that is alone in its batch is what was found beside another one."""
    for image, (beside, by_itself) in enumerate(zip(found, alone, strict=True)):
        if difference := _otherwise(beside, by_itself):
            changed = f"detections of image {image} depend on the others of its batch in eval mode: {difference}"
            raise ConformanceError(name, changed, "What is found in an image is the same in every batch.")


def _otherwise(one: Detections, other: Detections) -> str:
    """How two differ beyond rounding, which may exchange those of about the same score."""
    if len(one) != len(other):
        return f"{len(one)} beside it, {len(other)} alone"
    if not torch.allclose(one.scores, other.scores, 1e-3, 1e-4):
        return "other scores"
    near = (one.boxes[:, None] - other.boxes).abs().amax(-1) < 0.05
    same = near & (one.labels[:, None] == other.labels) & ((one.scores[:, None] - other.scores).abs() < 1e-3)
    return "" if same.any(1).all() and same.any(0).all() else "other boxes"
