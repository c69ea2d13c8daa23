"""Detections as rows of COCO's results JSON, and back; a round trip changes no bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from detcore.errors import DataError
from detcore.interfaces import Dataset
from detcore.masks import cut, encode
from detcore.structures import Detections

Row = dict[str, Any]
"""``{"image_id": 139, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9}``, and ``segmentation`` where
there are masks."""


def category_ids(dataset: Dataset) -> Sequence[int]:
    """COCO's category id by label: the dataset's own ``category_ids``, or label + 1 where it has none."""
    own: Sequence[int] | None = getattr(dataset, "category_ids", None)
    return range(1, len(dataset.classes) + 1) if own is None else own


def image_ids(dataset: Dataset) -> list[int | str]:
    """What a dataset calls its images, by index: its ``image_ids``, else as its targets say, else the index."""
    own = getattr(dataset, "image_ids", None)
    if own is None:
        own = [target.get("image_id", index) for index, target in enumerate(targets(dataset))]
    return [each if isinstance(each, str) else int(each) for each in own]


def targets(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The targets of a dataset; no image is read where it has a method ``annotations(index)``, which is this."""
    target = getattr(dataset, "annotations", lambda index: dataset[index][1])
    return (target(index) for index in range(len(dataset)))


def to_rows(
    found: Detections, image_id: int | str, category_ids: Sequence[int], size: tuple[int, int] | None = None
) -> list[Row]:
    """What was found in one image, in original pixels, as rows of plain values.

    Args:
        found: Of one image.
        image_id: As the annotations call it.
        category_ids: By label; see :func:`category_ids`.
        size: Height and width of the image; masks are left out without it.
    """
    corners = found.boxes.detach().double().cpu()
    boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
    labels, scores = found.labels.tolist(), found.scores.detach().double().tolist()
    rows: list[Row] = [
        {"image_id": image_id, "category_id": int(category_ids[label]), "bbox": box, "score": score}
        for label, box, score in zip(labels, boxes, scores, strict=True)
    ]
    if found.masks is not None and size is not None:
        for row, mask, box in zip(rows, found.masks.detach().float().cpu(), corners.float(), strict=True):
            part, corner = cut(mask, box, size)
            row["segmentation"] = encode(part, size, corner)
    return rows


def from_rows(
    rows: Iterable[Any], ids: Sequence[int | str], category_ids: Sequence[int], where: str = "results"
) -> dict[int | str, Detections]:
    """Rows of a results file by image, best first; an image without rows has no detections. Masks are left out.

    Args:
        rows: Of COCO's results JSON.
        ids: Every image that there is.
        category_ids: By label.
        where: The file, for messages.

    Raises:
        DataError: A row is not COCO's, or is of an image or a category that there is not.
    """
    labels = {id_: label for label, id_ in enumerate(category_ids)}
    by_image: dict[int | str, list[Row]] = {id_: [] for id_ in ids}
    for number, row in enumerate(rows):
        problem = _problem(row, by_image, labels)
        if problem:
            raise DataError(f"{where}: [{number}]", *problem)
        by_image[row["image_id"]].append(row)
    return {id_: _detections(found, labels) for id_, found in by_image.items()}


def _problem(row: Any, images: Mapping[int | str, Any], labels: Mapping[int, int]) -> tuple[str, str] | None:
    """What is wrong with a row, and what would be right."""
    needed = ("image_id", "category_id", "bbox", "score")
    if not isinstance(row, dict) or any(key not in row for key in needed):
        return "not a row of COCO's results", f"A row has {', '.join(needed)}."
    numbers = [*row["bbox"], row["score"]] if isinstance(row["bbox"], list) else []
    if len(numbers) != 5 or not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        found = f"bbox {row['bbox']} and score {row['score']}"
        return found, "A bbox is [x, y, width, height], a score a number."
    if not isinstance(row["image_id"], int | str) or row["image_id"] not in images:
        return f"the validation data has no image {row['image_id']!r}", "Are they results on other data?"
    if not isinstance(row["category_id"], int) or row["category_id"] not in labels:
        known = ", ".join(map(str, labels))
        return f"the validation data has no category {row['category_id']!r}", f"It has {known}."
    return None


def _detections(rows: list[Row], labels: Mapping[int, int]) -> Detections:
    rows = sorted(rows, key=lambda row: -row["score"])
    boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float64).reshape(-1, 4)
    return Detections(
        boxes=torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).float(),
        scores=torch.tensor([row["score"] for row in rows], dtype=torch.float32),
        labels=torch.tensor([labels[row["category_id"]] for row in rows], dtype=torch.int64),
    )
