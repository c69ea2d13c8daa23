"""Images and objects that a script or notebook has made up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from detcore.errors import ComponentError, did_you_mean
from detcore.interfaces import ClassNames

from detcore_records.dataset import RecordDataset
from detcore_records.record import Bad, Record, extent, plain
from detcore_records.samples import Invalid

KEYS = ("image", "boxes", "labels", "id", "width", "height", "iscrowd", "area", "polygons")
PER_OBJECT = ("boxes", "labels", "iscrowd", "area", "polygons")


class ListDataset(RecordDataset):
    """Images and objects as Python has them.

    ::

        ListDataset(rows=[{"image": "a.jpg", "boxes": [[10, 20, 110, 220]], "labels": ["cat"]}], images="photos")

    A row has ``image``, a path; ``boxes`` (N, 4), left, top, right and bottom in pixels; ``labels`` (N,), names, or
    numbers of ``classes``; and may have ``id`` (its path without), ``width`` and ``height`` (else the file is asked),
    ``iscrowd`` (N,), ``area`` (N,), and ``polygons`` (N,), lists of outlines x, y, x, y, ..., which do for boxes too.
    For what becomes of them and for the other arguments see :class:`detcore_records.dataset.RecordDataset`.

    Args:
        rows: The images.
        images: The folder that the rows' paths start from.
        classes: Names by label; None: the rows', in the order of the alphabet.
        segmentation: Whether outlines are read.
        invalid: What to do about flaws.
        keep_empty: Whether images without an object are kept.
        exif: Whether images are turned as their EXIF orientation says.
    """

    def __init__(
        self,
        *,
        rows: Iterable[Mapping[str, Any]],
        images: str = "",
        classes: ClassNames | None = None,
        segmentation: Literal["none", "polygons"] = "none",
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        self._given: Iterable[Mapping[str, Any]] = rows
        self._names = classes
        super().__init__(
            source="rows",
            images=images,
            classes=classes,
            segmentation=segmentation,
            invalid=invalid,
            keep_empty=keep_empty,
            exif=exif,
        )
        self._given = ()  # workers map the arrays instead

    def files(self) -> None:
        """There are none."""
        return None

    def class_names(self) -> None:
        """Those of the rows."""
        return None

    def records(self) -> Iterator[Record | Bad]:
        """One for each row."""
        for number, row in enumerate(self._given):
            where = f"rows[{number}]"
            if problem := row_problem(row):
                yield Bad(where, problem, "unreadable row")
                continue
            try:
                yield self._record(where, row)
            except ComponentError as error:
                yield Bad(where, error.found, "unreadable row")
            except (TypeError, ValueError) as error:
                yield Bad(where, f"not numbers where they are wanted: {error}", "unreadable row")

    def _record(self, where: str, row: Mapping[str, Any]) -> Record:
        outlines = plain(row.get("polygons", ()))
        width, height = (None if row.get(key) is None else int(row[key]) for key in ("width", "height"))
        return Record(
            id=plain(row.get("id", str(row["image"]))),
            file=str(row["image"]),
            width=width,
            height=height,
            boxes=plain(row["boxes"]) if "boxes" in row else [extent(each) for each in outlines],
            names=[self._name(label) for label in plain(row.get("labels", ()))],
            crowd=[bool(each) for each in plain(row.get("iscrowd", ()))],
            areas=[float(each) for each in plain(row.get("area", ()))],
            outlines=outlines,
            where=where,
        )

    def _name(self, label: object) -> str:
        """The name of a class, or of the number of one."""
        if isinstance(label, int) and self._names is not None and 0 <= label < len(self._names):
            return self._names[label]
        return label if isinstance(label, str) else f"label {label}"


def row_problem(row: object) -> str:
    """What is wrong with the keys of a row, or the empty string."""
    if not isinstance(row, Mapping):
        return f"a {type(row).__name__}, not a dict with {', '.join(KEYS[:3])}"
    if not isinstance(row.get("image"), str | Path):
        return f"image is {row.get('image')!r}, not a path"
    for key in row:
        if key not in KEYS:
            near = did_you_mean(str(key), KEYS) or f"There are {', '.join(KEYS)}."
            return f"{key} is no key. {near}"
    for key in PER_OBJECT:
        if isinstance(row.get(key, ()), str) or not isinstance(plain(row.get(key, ())), Sequence):
            return f"{key} is {row[key]!r}, not a list with an entry for each object"
    return ""
