"""The images of a data set with their objects, as numbers to be written, whatever format they came from."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from detcore.errors import DataError
from detcore_records.samples import ImageFiles
from torch import Tensor

Floats = npt.NDArray[np.float64]

WRITTEN = {"boxes", "labels", "image_id", "iscrowd", "area", "polygons", "offsets", "owner"}
"""What of a target some format has a place for."""
BARRED = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What no text in UTF-8 or no XML may hold, and the ends of lines."""
CLOSE = 0.01
"""Pixels that a box may differ from its outlines' extent, as rounding makes it."""


@attrs.frozen(kw_only=True, eq=False)
class Thing:
    """An object.

    Attributes:
        box: Left, top, right, bottom, in pixels from the image's corner.
        name: Of its class.
        label: Of its class, from 0.
        crowd: Counts neither for nor against: a crowd, a difficult one.
        area: In square pixels.
        outlines: Each (K, 2), x and y; none where they were not read, or it has none.
    """

    box: Sequence[float]
    name: str
    label: int
    crowd: bool
    area: float
    outlines: Sequence[Floats]


@attrs.frozen(kw_only=True, eq=False)
class Sheet:
    """An image with its objects.

    Attributes:
        id: A number or a text.
        name: Of its file, from the folder of images, with slashes.
        width: In pixels.
        height: In pixels.
        things: Its objects.
        outlined: Whether outlines were read.
    """

    id: int | str
    name: str
    width: int
    height: int
    things: Sequence[Thing]
    outlined: bool

    @property
    def stem(self) -> str:
        """The name without suffix."""
        return os.path.splitext(self.name)[0]


@attrs.frozen(eq=False)
class Source:
    """A data set, and what of it is lost where it is written.

    Attributes:
        dataset: The data set.
        folder: Of its images.
        losses: How often what is lost; written to while sheets are made and written.
    """

    dataset: ImageFiles
    folder: Path
    losses: Counter[str] = attrs.field(factory=Counter)

    def sheets(self) -> Iterator[Sheet]:
        """All images, in order. No image is read."""
        for index in range(len(self.dataset)):
            target = self.dataset.annotations(index)
            height, width = self.dataset.size(index)
            self.losses.update(f'"{key}" of images' for key in {*target} - WRITTEN)
            yield Sheet(
                id=target["image_id"],
                name=self.name(index),
                width=width,
                height=height,
                things=self._things(target),
                outlined="polygons" in target,
            )

    def name(self, index: int) -> str:
        """Of an image's file, from the folder of images, with slashes.

        Raises:
            DataError: It cannot be written.
        """
        name = os.path.relpath(self.dataset.path(index), self.folder).replace(os.sep, "/")
        _check_letters(name, f"{self.folder}")
        return name

    def _things(self, target: Mapping[str, Any]) -> Sequence[Thing]:
        boxes, areas = decimals(target["boxes"]).tolist(), decimals(target["area"]).tolist()
        rows = zip(boxes, target["labels"].tolist(), target["iscrowd"].tolist(), areas, strict=True)
        outlines = _outlines(target, len(boxes))
        return [
            Thing(
                box=box,
                name=self.dataset.classes[label],
                label=label,
                crowd=bool(crowd),
                area=area,
                outlines=outlines[row],
            )
            for row, (box, label, crowd, area) in enumerate(rows)
        ]


def source_of(dataset: ImageFiles) -> Source:
    """With the data set's own folder of images; where some are outside of it, that which all of them are in.

    Raises:
        DataError: The name of a class cannot be written.
    """
    for name in dataset.classes:
        _check_letters(name, "classes")
    folder: Path = getattr(dataset, "folder", Path())
    names = [os.path.relpath(dataset.path(index), folder) for index in range(len(dataset))]
    outside = any(name.startswith("..") for name in names)
    return Source(dataset, common(folder, names) if outside else folder)


def common(folder: Path, names: Sequence[str]) -> Path:
    """The folder that all files of these names are in."""
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(folder / name)) for name in names]))


def decimals(numbers: Tensor) -> Floats:
    """float32 -> float64 of the fewest digits that give the same float32: 473.07, not 473.07000732421875."""
    return numbers.as_subclass(Tensor).numpy().astype("U32").astype(np.float64)


def number(value: float) -> int | float:
    """A number as files have it: to six digits behind the point, and without one where it is whole."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


def extent(thing: Thing) -> Sequence[float]:
    """The box around an object's outlines."""
    points = np.concatenate([*thing.outlines])
    return [*points.min(0).tolist(), *points.max(0).tolist()]


def without_crowds(sheet: Sheet, losses: Counter[str]) -> Sequence[Thing]:
    """The objects of an image for a format that cannot say that one does not count."""
    losses["crowds and difficult objects, left out"] += sum(thing.crowd for thing in sheet.things)
    return [thing for thing in sheet.things if not thing.crowd]


def count_areas(things: Sequence[Thing], losses: Counter[str]) -> None:
    """Areas that are not those of boxes, for a format that has none."""
    for thing in things:
        left, top, right, bottom = thing.box
        box = (right - left) * (bottom - top)
        losses["areas other than those of boxes"] += abs(thing.area - box) > 1e-4 * max(box, 1)


def count_outlines(things: Sequence[Thing], losses: Counter[str]) -> None:
    """Objects with outlines, for a format that has none."""
    losses["objects' outlines"] += sum(bool(thing.outlines) for thing in things)


def count_boxes(things: Sequence[Thing], losses: Counter[str]) -> None:
    """Boxes that are not those of outlines, for a format in which an object is either."""
    far = [thing for thing in things if thing.outlines and np.abs(np.subtract(extent(thing), thing.box)).max() > CLOSE]
    losses["boxes other than those of outlines"] += len(far)


def count_classes(classes: Sequence[str], seen: set[str], losses: Counter[str]) -> None:
    """What is lost of classes by a format that has no list of them."""
    losses["classes that no object has"] += len({*classes} - seen)
    kept = [name for name in classes if name in seen]
    losses["the order of classes (readers sort names; or give them classes)"] += kept != sorted(kept)


def unique(sheets: Iterator[Sheet]) -> Iterator[Sheet]:
    """The same, for a format with a file of annotations for each image.

    Raises:
        DataError: Two images would have the same.
    """
    seen: dict[str, str] = {}
    for sheet in sheets:
        if sheet.stem in seen:
            found = f"{seen[sheet.stem]} and {sheet.name} would have the same file of annotations"
            raise DataError(sheet.name, found, "Rename one.")
        seen[sheet.stem] = sheet.name
        yield sheet


def _check_letters(name: str, where: str) -> None:
    if BARRED.search(name):
        raise DataError(f"{where}: {name!a}", "the name has letters that cannot be written", "Rename it.")


def _outlines(target: Mapping[str, Any], count: int) -> Sequence[Sequence[Floats]]:
    """(G,) those of each object."""
    found: list[list[Floats]] = [[] for _ in range(count)]
    if "polygons" in target:
        points, offsets = decimals(target["polygons"]), target["offsets"].tolist()
        for outline, owner in enumerate(target["owner"].tolist()):
            found[owner].append(points[offsets[outline] : offsets[outline + 1]])
    return found
