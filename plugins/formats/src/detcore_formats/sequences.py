"""Data sets of other libraries, whose images come with their objects: torchvision's, Hugging Face's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from detcore.errors import ComponentError, DataError, one_line
from detcore.images import from_pillow
from detcore.report import Finding
from detcore_records.dataset import RecordDataset
from detcore_records.record import Bad, Box, Record, corners, plain
from detcore_records.samples import Invalid
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F


class SequenceDataset(RecordDataset):
    """Samples of a sequence; a class on it says which image and which objects a sample has.

    All samples are read once when it is made, to find what is wrong with them; of images nothing is kept.

    Args:
        samples: Has a length and an item by number; workers get a copy.
        names: Of classes, by the number that samples have for them.
        classes: Some of the names, in the order of their labels; objects of others are left out.
        invalid: What to do about flaws.
        keep_empty: Whether images without an object are kept.
    """

    UNIT = "object"

    def __init__(
        self,
        samples: Any,
        *,
        names: Mapping[int, str] | Sequence[str],
        classes: Sequence[str] | None = None,
        invalid: Invalid = "fail",
        keep_empty: bool = True,
    ) -> None:
        self.samples = samples
        self.names = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        name = type(samples).__name__
        super().__init__(source=name, images="", classes=classes, invalid=invalid, keep_empty=keep_empty)
        numbers = {name: number for number, name in self.names.items()}
        self.category_ids: Sequence[int] = tuple(numbers[name] for name in self.classes)

    @abstractmethod
    def image(self, number: int) -> Any:
        """The image of a sample: Pillow's, or a tensor (3, H, W) uint8."""

    @abstractmethod
    def record(self, number: int) -> Record:
        """The record of a sample, with its size; its ``file`` is its number."""

    def files(self) -> None:
        """There are none."""
        return None

    def class_names(self) -> Sequence[str]:
        """All of them."""
        return [*self.names.values()]

    def records(self) -> Iterator[Record | Bad]:
        """One for each sample."""
        for number in range(len(self.samples)):
            where = f"{self.source}[{number}]"
            try:
                yield self.record(number)
            except ComponentError as error:
                yield Bad(where, error.found, "unreadable sample")
            except Exception as error:  # whatever another library may raise
                yield Bad(where, one_line(error), "unreadable sample")

    def absent(self, names: Sequence[str]) -> Finding:
        """Nothing is."""
        return Finding("missing image file", np.zeros(0, np.int64), str)

    def pixels(self, index: int) -> Tensor:
        """An image (3, H, W) uint8, RGB."""
        number = int(self.path(index).name)
        where = f"{self.source}[{number}]"
        try:
            image = self.image(number)
        except Exception as error:  # whatever another library may raise
            raise DataError(where, one_line(error), "Replace the image.") from error
        tensor = from_pillow(image) if isinstance(image, Image.Image) else image
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.uint8 or tensor.ndim != 3 or len(tensor) != 3:
            found = f"{tuple(tensor.shape)} {tensor.dtype}" if isinstance(tensor, Tensor) else type(image).__name__
            raise DataError(where, f"the image is {found}", "It is Pillow's, or (3, H, W) uint8.")
        if tuple(tensor.shape[1:]) != self.size(index):
            raise DataError(where, f"the image has {tuple(tensor.shape[1:])} pixels, not {self.size(index)}")
        return tensor

    def name(self, label: object) -> str:
        """The name of a class by its number."""
        number = int(label) if isinstance(label, int | np.integer) else None
        return self.names.get(number, f"label {label}") if number is not None else str(label)


class TorchvisionDataset(SequenceDataset):
    """A data set of ``(image, target)``, as torchvision's references have it.

    ::

        voc = wrap_dataset_for_transforms_v2(VOCDetection("voc"), target_keys=("boxes", "labels"))
        TorchvisionDataset(voc, names={1: "aeroplane", 2: "bicycle", 3: "bird", ...})

    A target has ``boxes`` (N, 4), left, top, right, bottom, or ``tv_tensors.BoundingBoxes`` of any format; ``labels``
    (N,), without which there is one class; and may have ``iscrowd``, ``area`` and ``image_id`` (the sample's number
    without). Arguments: see :class:`SequenceDataset`.
    """

    def image(self, number: int) -> Any:
        """The first of the two."""
        return self.samples[number][0]

    def record(self, number: int) -> Record:
        """The second of the two."""
        image, target = self.samples[number]
        boxes = target.get("boxes", ())
        if isinstance(boxes, tv_tensors.BoundingBoxes):
            boxes = F.convert_bounding_box_format(boxes, new_format=tv_tensors.BoundingBoxFormat.XYXY)
        rows: Any = plain(boxes)
        height, width = F.get_size(image)
        return Record(
            id=plain(target.get("image_id", number)),
            file=str(number),
            width=width,
            height=height,
            boxes=rows,
            names=[self.name(label) for label in plain(target.get("labels", [*self.names][:1] * len(rows)))],
            crowd=[bool(each) for each in plain(target.get("iscrowd", ()))],
            areas=plain(target.get("area", ())),
            where=f"{self.source}[{number}]",
        )


class HuggingFaceDataset(SequenceDataset):
    """Rows of a data set of Hugging Face's ``datasets``, in the layout that most of its detection data sets have.

    A row has an ``image`` and ``objects``, a dict of lists or a list of dicts with ``bbox`` and ``category``, and maybe
    ``area`` and ``iscrowd``. Where it has ``width`` and ``height`` too, no image is decoded before it is asked for.

    Args:
        samples: What ``load_dataset(..., split="train")`` gives; or any sequence of dicts.
        names: Of classes, by number; None: those of the ``ClassLabel`` that the data set has.
        box: What the four numbers are: ``"size"``, left, top, width, height; or ``"corners"``.
        image: The column of images.
        objects: The column of objects; its own are ``bbox``, ``category``.
        id: The column of identifiers; the row's number where there is none.
        classes: Some of the names, in the order of their labels; objects of others are left out.
        invalid: What to do about flaws.
        keep_empty: Whether images without an object are kept.
    """

    def __init__(
        self,
        samples: Any,
        *,
        names: Mapping[int, str] | Sequence[str] | None = None,
        box: Literal["size", "corners"] = "size",
        image: str = "image",
        objects: str = "objects",
        id: str = "image_id",
        classes: Sequence[str] | None = None,
        invalid: Invalid = "fail",
        keep_empty: bool = True,
    ) -> None:
        self.box, self.columns = box, (image, objects, id)
        if names is None:
            names = class_labels(getattr(samples, "features", {}).get(objects))
        if names is None:
            found = f"{objects} has no category whose classes have names"
            raise DataError(type(samples).__name__, found, 'Give names=["cat", ...], by number.')
        held = [each for each in getattr(samples, "column_names", ()) if each != image]
        whole = {"width", "height", objects} <= {*held}
        self._rows = samples.select_columns(held) if whole else samples
        super().__init__(samples, names=names, classes=classes, invalid=invalid, keep_empty=keep_empty)
        del self._rows

    def image(self, number: int) -> Any:
        """The row's image."""
        return self.samples[number][self.columns[0]]

    def record(self, number: int) -> Record:
        """The row's objects."""
        image, objects, id_ = self.columns
        row = self._rows[number]
        size = (row["width"], row["height"]) if {"width", "height"} <= {*row} else F.get_size(row[image])[::-1]
        found = _columns(row[objects])
        boxes: Sequence[Box] = [[float(each) for each in box] for box in found.get("bbox", ())]
        if self.box == "size":
            boxes = [corners(box) for box in boxes]
        return Record(
            id=row.get(id_, number),
            file=str(number),
            width=size[0],
            height=size[1],
            boxes=boxes,
            names=[self.name(label) for label in found.get("category", ())],
            crowd=[bool(each) for each in found.get("iscrowd", ())],
            areas=found.get("area", ()),
            where=f"{self.source}[{number}]",
        )


def class_labels(feature: Any) -> Sequence[str] | None:
    """The names of ``category`` among the features of objects, whichever way they are nested."""
    inner = getattr(feature, "feature", feature)
    category = inner.get("category") if isinstance(inner, Mapping) else None
    while category is not None and not hasattr(category, "names"):
        category = getattr(category, "feature", None)
    return None if category is None else [*category.names]


def _columns(objects: Any) -> Mapping[str, Any]:
    """A list of dicts as a dict of lists."""
    if isinstance(objects, Mapping):
        return objects
    return {key: [each[key] for each in objects] for key in (objects[0] if objects else ())}
