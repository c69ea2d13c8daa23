"""labelme's files: a JSON beside each image, with shapes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import attrs
import msgspec
import numpy as np
from detcore.interfaces import ClassNames
from detcore_records.dataset import RecordDataset
from detcore_records.record import Bad, Numbers, Record, extent
from detcore_records.samples import Invalid

CORNERS = 64
"""Points of a circle's outline."""


class Shape(msgspec.Struct):
    """An entry of ``shapes``; ``group_id`` is shared by the shapes of one object."""

    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    group_id: int | None = None


class Sheet(msgspec.Struct, rename="camel"):
    """A file; the image that may be in it is left out."""

    shapes: list[Shape]
    image_path: str
    image_height: int | None = None
    image_width: int | None = None


@attrs.frozen
class Thing:
    """An object.

    Attributes:
        number: Of its first shape, from 1.
        name: Of its class.
        boxes: Of its shapes.
        outlines: Of its shapes.
    """

    number: int
    name: str
    boxes: list[Numbers]
    outlines: list[Numbers]


class LabelmeDataset(RecordDataset):
    """A folder of labelme's JSON files, with those below it.

    Polygons, rectangles, circles and masks are objects (of a mask, its box); shapes with the same label and group are
    one. Points and lines have no area and are flaws. labelme shows images as their EXIF orientation says: have ``exif =
    true`` where they have one. For what becomes of objects and flaws, and the other arguments, see
    :class:`detcore_records.dataset.RecordDataset`.

    Args:
        source: The folder of JSON files.
        images: The folder that their ``imagePath`` start from; None: each from its file's own.
        classes: Names by label; None: all of the files, in the order of the alphabet.
        segmentation: Whether outlines are read.
        invalid: What to do about flaws.
        keep_empty: Whether images without an object are kept.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        image_ids: Paths of the JSON files from their folder, without suffix.
    """

    UNIT = "shape"

    def __init__(
        self,
        *,
        source: str,
        images: str | None = None,
        classes: ClassNames | None = None,
        segmentation: Literal["none", "polygons"] = "none",
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        self.beside = images is None
        super().__init__(
            source=source,
            images=source if images is None else images,
            classes=classes,
            segmentation=segmentation,
            invalid=invalid,
            keep_empty=keep_empty,
            exif=exif,
        )

    def files(self) -> Iterable[Path]:
        """The JSON files."""
        return sorted(self.source.rglob("*.json"))

    def class_names(self) -> None:
        """Those of the files."""
        return None

    def records(self) -> Iterator[Record | Bad]:
        """One for each file."""
        for path in self.files():
            try:
                sheet = msgspec.json.decode(path.read_bytes(), type=Sheet)
            except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
                yield Bad(str(path), f"not labelme's JSON: {error}", "unreadable file")
                continue
            yield from self._record(path, sheet)

    def _record(self, path: Path, sheet: Sheet) -> Iterator[Record | Bad]:
        things: dict[object, Thing] = {}
        for number, shape in enumerate(sheet.shapes, 1):
            problem, box, outlines = geometry(shape)
            if problem:
                yield Bad(f"{path}: shape {number}", problem, "shape without area")
                continue
            key = number if shape.group_id is None else (shape.label, shape.group_id)
            thing = things.setdefault(key, Thing(number, shape.label, [], []))
            thing.boxes.append(box)
            thing.outlines.extend(outlines)
        own = path.relative_to(self.source)
        name = sheet.image_path.replace("\\", "/")
        yield Record(
            id=own.with_suffix("").as_posix(),
            file=os.path.normpath(own.parent / name) if self.beside else name,
            width=sheet.image_width,
            height=sheet.image_height,
            boxes=[_union(thing.boxes) for thing in things.values()],
            names=[thing.name for thing in things.values()],
            outlines=[thing.outlines for thing in things.values()],
            where=str(path),
            lines=[thing.number for thing in things.values()],
        )


def geometry(shape: Shape) -> tuple[str, Numbers, Sequence[Numbers]]:
    """What is wrong with a shape, or the empty string; its box; its outlines."""
    kind, count = shape.shape_type or "polygon", len(shape.points)
    flat = [number for point in shape.points for number in point]
    if kind == "polygon":
        return _needs(3, shape) if count < 3 else ("", extent([flat]), [flat])
    if kind == "rectangle":
        left, top, right, bottom = extent([flat])
        outline = [left, top, right, top, right, bottom, left, bottom]
        return _needs(2, shape) if count < 2 else ("", [left, top, right, bottom], [outline])
    if kind == "circle":
        return _needs(2, shape) if count < 2 else ("", *_circle(*shape.points[:2]))
    if kind == "mask":  # its points are the first and last pixel
        left, top, right, bottom = extent([flat])
        return _needs(2, shape) if count < 2 else ("", [left, top, right + 1, bottom + 1], [])
    return f"a {kind} has no area", (), ()


def _needs(points: int, shape: Shape) -> tuple[str, Numbers, Sequence[Numbers]]:
    return f"a {shape.shape_type or 'polygon'} of {len(shape.points)} points, not {points} or more", (), ()


def _circle(centre: Sequence[float], edge: Sequence[float]) -> tuple[Numbers, Sequence[Numbers]]:
    """Box and outline of a circle through a point."""
    (x, y), radius = centre, math.dist(centre, edge)
    angles = np.arange(CORNERS) * 2 * np.pi / CORNERS
    outline = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
    return [x - radius, y - radius, x + radius, y + radius], [outline.ravel().tolist()]


def _union(boxes: Sequence[Numbers]) -> Numbers:
    """The box around boxes."""
    corners = np.array(boxes, np.float64)
    return [*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist()]
