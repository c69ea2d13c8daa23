"""How a sample is read of an image file and rows of objects, whatever their format."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from detcore.classes import some, table
from detcore.errors import DataError, did_you_mean
from detcore.images import read_sized_image
from detcore.polygons import PolygonPoints
from detcore.report import Flaw
from torch import Tensor
from torchvision import tv_tensors

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

Invalid = Literal["fail", "skip"]
"""What is done about flaws: the first ends it, or all are noted."""

log = logging.getLogger("detcore.data")


class ImageFiles(ABC):
    """Images in files, each with rows of objects that have been found sound.

    ``dataset[i]`` is ``(tv_tensors.Image uint8 (3, H, W), target)``. An image that cannot be read, or has another size
    than its annotations say, ends it; with ``invalid = "skip"`` it is a black one without objects.

    Attributes:
        classes: Names by label.
        image_ids: (I,) by index.
        invalid: Which of the two.
        exif: Whether images are turned as their EXIF orientation says.
        report: The flaws that were noted so far (in this process: a worker's are in its own and in the log).
        object_counts: How many objects are ``annotated``, and how many of these no sample has: ``flawed`` ones that
            were dropped, and sound ones that are ``left_out``, because their image or their class is.
        annotated_classes: Names of the classes that objects have, chosen or not, and their numbers in the files; empty
            where an object of a class that is not chosen is a flaw.
    """

    classes: Sequence[str]
    image_ids: Any
    invalid: Invalid
    exif: bool
    report: list[Flaw]
    object_counts: Mapping[str, int]
    annotated_classes: Mapping[str, int] = {}

    @abstractmethod
    def path(self, index: int) -> Path:
        """The file of an image."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, as its annotations say."""

    @abstractmethod
    def rows(self, index: int) -> Ints:
        """(G,) the rows of an image's objects."""

    @abstractmethod
    def target(self, index: int, rows: Ints) -> dict[str, Any]:
        """The target of an image with these rows of its objects."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, dict[str, Any]]:
        target = self.annotations(index)
        try:
            return tv_tensors.Image(self.pixels(index)), target
        except DataError as error:
            if self.invalid == "fail":
                raise
            flaw = Flaw(error.where, error.found, "blackened", "unreadable image")
        log.warning("%s", flaw)
        self.report.append(flaw)
        black = torch.zeros(3, *self.size(index), dtype=torch.uint8)
        return tv_tensors.Image(black), {**self.target(index, np.arange(0)), "dropped": len(target["labels"])}

    def pixels(self, index: int) -> Tensor:
        """An image (3, H, W) uint8, RGB.

        Raises:
            DataError: It cannot be read, or has another size.
        """
        return read_sized_image(self.path(index), self.size(index), self.exif)

    def annotations(self, index: int) -> dict[str, Any]:
        """The target of an image without reading the image."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self.target(index, self.rows(index))


def target_of(  # noqa: PLR0917 (columns of one table)
    boxes: Floats, labels: Ints, image_id: int | str, crowd: Bools, areas: Floats, size: tuple[int, int]
) -> dict[str, Any]:
    """A target of (G, 4) XYXY boxes, (G,) labels, crowds and areas, in an image of ``size`` (height, width)."""
    return {
        "boxes": tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes.astype(np.float32)), format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size
        ),
        "labels": torch.from_numpy(labels.astype(np.int64)),
        "image_id": image_id,
        "iscrowd": torch.from_numpy(crowd.astype(np.int64)),
        "area": torch.from_numpy(areas.astype(np.float32)),
    }


def polygons_of(outlines: Sequence[Sequence[Floats]], size: tuple[int, int]) -> Mapping[str, Tensor]:
    """What a target has of outlines (K, 2) per object: see :mod:`detcore.polygons`."""
    every = [(owner, points) for owner, each in enumerate(outlines) for points in each]
    points = np.concatenate([np.zeros((0, 2)), *(points for _, points in every)]).astype(np.float32)
    return {
        "polygons": PolygonPoints(torch.from_numpy(points), canvas_size=size),
        "offsets": torch.tensor([0, *(len(points) for _, points in every)]).cumsum(0),
        "owner": torch.tensor([owner for owner, _ in every], dtype=torch.int64),
    }


def count_objects(judged: Bools, sound: Bools, used: Bools) -> dict[str, int]:
    """:attr:`ImageFiles.object_counts` of N objects.

    Args:
        judged: (N,) of images that stay.
        sound: (N,) without a flaw for which they are dropped.
        used: (N,) in a sample.
    """
    flawed = judged & ~sound
    return {"annotated": len(sound), "flawed": int(flawed.sum()), "left_out": int((~flawed & ~used).sum())}


def choose(where: str, known: Collection[str] | None, classes: Sequence[str], noun: str = "class") -> tuple[str, ...]:
    """Names by label: those that a config lists, of the ones that there are (None: any; a mapping has their numbers).

    Raises:
        DataError: There are none, one is there twice, or is not known.
    """
    for name in classes:
        if known is not None and name not in known:
            near = did_you_mean(name, known) or f"It has {some([*known])}."
            numbered = {each: f"id {id_}" for each, id_ in known.items()} if isinstance(known, Mapping) else [*known]
            shown = table({"config": classes, "annotations": numbered})
            found = f'no {noun} is called "{name}", which the config lists in classes'
            raise DataError(where, found, f"{near}\n{shown}")
    if not classes or len(set(classes)) < len(classes):
        raise DataError(where, f"classes = {list(classes)}", "Name at least one class, and each once.")
    return tuple(classes)
