"""Any dataset's ground truth as an instances table of COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from detcore.errors import DataError
from detcore.interfaces import Dataset
from detcore.masks import encode
from detcore.results import category_ids
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detcore_coco.dataset import CocoDataset


@attrs.frozen(eq=False)
class Truth:
    """What detections are held against.

    Attributes:
        content: ``images``, ``annotations`` (numbered from 1: COCO's code takes 0 for "no match") and ``categories``.
        numbers: The number that COCO's code has for an image, by the dataset's id; the id itself where it is a number.
        sizes: Height and width by the dataset's id.
        category_ids: By label.
    """

    content: Mapping[str, Any]
    numbers: Mapping[int | str, int]
    sizes: Mapping[int | str, tuple[int, int]]
    category_ids: Sequence[int]


def ground_truth(dataset: Dataset, outlines: bool) -> Truth:
    """The ground truth of a dataset, with outlines or masks where they are asked for.

    Raises:
        DataError: Outlines are asked for and there are none; or two images have the same id.
    """
    categories = category_ids(dataset)
    sizes: dict[int | str, tuple[int, int]] = {}
    per_image: list[list[dict[str, Any]]] = []
    for index in range(len(dataset)):
        made = _own(dataset, index) if isinstance(dataset, CocoDataset) else _made(dataset, index, categories)
        id_, size, rows = made
        if id_ in sizes:
            raise DataError(f"{type(dataset).__name__}: image {index}", f"an image before it has the id {id_!r} too")
        if outlines and any("segmentation" not in row for row in rows):
            fix = 'Have the dataset read them (CocoDataset: segmentation = "polygons"), or leave out "segm".'
            raise DataError("CocoEvaluator: metrics", 'the dataset has no outlines or masks for "segm"', fix)
        sizes[id_] = size
        per_image.append(rows)
    numbers = {id_: number for number, id_ in enumerate(sizes, 1)}
    if all(isinstance(id_, int) for id_ in sizes):
        numbers = {id_: int(id_) for id_ in sizes}
    annotations = [
        {**row, "image_id": number} for number, rows in zip(numbers.values(), per_image, strict=True) for row in rows
    ]
    content = {
        "images": [{"id": numbers[id_], "height": size[0], "width": size[1]} for id_, size in sizes.items()],
        "annotations": [{**row, "id": number} for number, row in enumerate(annotations, 1)],
        "categories": [{"id": id_, "name": name} for id_, name in zip(categories, dataset.classes, strict=True)],
    }
    return Truth(content, numbers, sizes, categories)


Rows = list[dict[str, Any]]


def _own(dataset: CocoDataset, index: int) -> tuple[int, tuple[int, int], Rows]:
    """The id, the size and the annotations of an image, as exactly as the file has them."""
    return int(dataset.image_ids[index]), dataset.size(index), dataset.coco(index)


def _made(dataset: Dataset, index: int, categories: Sequence[int]) -> tuple[int | str, tuple[int, int], Rows]:
    """The same, made of a target."""
    accessor = getattr(dataset, "annotations", None)
    image, target = (None, accessor(index)) if callable(accessor) else dataset[index]
    corners = target["boxes"].as_subclass(Tensor).double()
    boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    areas = target["area"].double() if "area" in target else boxes[:, 2:].prod(1)
    crowd = target["iscrowd"].tolist() if "iscrowd" in target else [0] * len(boxes)
    columns = zip(target["labels"].tolist(), boxes.tolist(), areas.tolist(), crowd, strict=True)
    rows: Rows = [
        {"category_id": categories[label], "bbox": box, "area": area, "iscrowd": int(is_crowd)}
        for label, box, area, is_crowd in columns
    ]
    for row, segmentation in zip(rows, _segmentations(target), strict=False):
        row["segmentation"] = segmentation
    size = getattr(target["boxes"], "canvas_size", None) or tuple(F.get_size(image))
    id_ = target.get("image_id", index)
    return (int(id_) if isinstance(id_, Tensor) else id_), size, rows


def _segmentations(target: Mapping[str, Any]) -> list[Any]:
    """Per object its outlines or mask as COCO's JSON has them; an empty list where the target has neither."""
    if "polygons" in target:
        segmentations: list[Any] = [[] for _ in target["labels"]]
        points, offsets = target["polygons"].as_subclass(Tensor).double(), target["offsets"].tolist()
        for owner, begin, end in zip(target["owner"].tolist(), offsets[:-1], offsets[1:], strict=True):
            segmentations[owner].append(points[begin:end].flatten().tolist())
        return segmentations
    return [encode(mask) for mask in target["masks"].as_subclass(Tensor)] if "masks" in target else []
