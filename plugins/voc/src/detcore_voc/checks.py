"""What can be wrong with VOC's files and the objects in them; everything is found at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
from detcore.errors import did_you_mean
from detcore.report import Finding

from detcore_voc.files import File
from detcore_voc.reading import CORNERS, Entry

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROUNDING = 1.0
"""Pixels by which a box may stand out over the image's edge, as rounded boxes do; it is left as it is written."""
TWINS = 0.8
"""IoU from which two objects of one class are taken for one that was annotated twice."""


def file_findings(files: Sequence[File], images: Path) -> Iterator[Finding]:
    """What is wrong with files; a file has at most one of these."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    seen: set[str] = set()
    for row, file in enumerate(files):
        if problem := _file_problem(file, images, file.stem in seen):
            kind, what, action = problem
            found.setdefault((kind, action), {})[row] = what
        seen.add(file.stem)
    for (kind, action), whats in found.items():
        yield Finding(kind, np.array([*whats], np.int64), whats.__getitem__, action)


def _file_problem(file: File, images: Path, again: bool) -> tuple[str, str, str] | None:
    """Kind, what, action."""
    if again:
        return "listed twice", f"{file.stem} is in the split before", "dropped"
    if not file.path.is_file():
        return "missing annotation file", "there is no such file", "dropped"
    if file.problem:
        return "unreadable annotation file", file.problem, "dropped"
    if not file.images:
        return "missing image file", f"there is no image {images / file.stem} (.jpg, .png, ...)", "dropped"
    filename = file.sheet.filename
    if not file.image:
        found = f'there are {", ".join(file.images)}; filename says "{filename}"'
        return "several image files", found, "dropped"
    if min(size(file)) <= 0:
        return "image without size", "width {!r}, height {!r}".format(*file.sheet.size), "dropped"
    if filename not in ("", os.path.basename(file.stem), os.path.basename(file.image)):
        return "other filename", f'filename says "{filename}", the image is {images / file.image}', "kept"
    return None


def size(file: File) -> tuple[int, int]:
    """Width and height, as the file says; 0 where it does not say it in numbers."""
    width, height = np.nan_to_num([_number(text) for text in file.sheet.size], posinf=0).astype(int).tolist()
    return width, height


@attrs.frozen(eq=False)
class Table:
    """The objects of all files, N rows, in arrays.

    Attributes:
        rows: As they were read.
        file: (N,) the row of the file.
        number: (N,) which of its file's objects it is, from 1.
        label: (N,) -1 where the name is none of the classes.
        written: (N, 4) float64, xmin, ymin, xmax, ymax as the file has them; not a number where one is none.
        boxes: (N, 4) float64, the same as edges: the image begins at 0.
        sizes: (N, 2) float64, width and height of the image.
        difficult: (N,).
        classes: Names by label.
    """

    rows: Sequence[Entry]
    file: Ints
    number: Ints
    label: Ints
    written: Floats
    boxes: Floats
    sizes: Floats
    difficult: Bools
    classes: Sequence[str]

    @property
    def clipped(self) -> Floats:
        """(N, 4) the boxes with what is outside the image cut off."""
        return np.concatenate([np.maximum(self.boxes[:, :2], 0), np.minimum(self.boxes[:, 2:], self.sizes)], 1)

    @property
    def over(self) -> Bools:
        """(N,) which boxes stand out over the image by more than rounding."""
        clipped = self.clipped
        return _any((self.boxes < clipped - ROUNDING) | (self.boxes > clipped + ROUNDING))


def tabulate(files: Sequence[File], classes: Sequence[str], shift: Sequence[float]) -> Table:
    """All objects as arrays; ``shift`` is added to the four written numbers."""
    counts = [len(file.sheet.objects) for file in files]
    file = np.repeat(np.arange(len(files)), counts).astype(np.int64)
    rows = [entry for each in files for entry in each.sheet.objects]
    labels = {name: label for label, name in enumerate(classes)}
    written = np.array([[_number(text) for text in entry.corners] for entry in rows]).reshape(-1, 4)
    return Table(
        rows=rows,
        file=file,
        number=np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + 1,
        label=np.array([labels.get(entry.name, -1) for entry in rows], np.int64),
        written=written,
        boxes=written + shift,
        sizes=np.array([size(each) for each in files], np.float64).reshape(-1, 2)[file],
        difficult=np.array([entry.difficult == "1" for entry in rows], np.bool_),
        classes=classes,
    )


def object_findings(table: Table) -> Iterator[Finding]:
    """What is wrong with objects; a row that is to be dropped has at most one of these."""
    rows, boxes, clipped = table.rows, table.boxes, table.clipped

    def box(row: int) -> str:
        pairs = zip(CORNERS, rows[row].corners, strict=True)
        return "the box " + ", ".join(f"{name} {text or '?'}" for name, text in pairs)

    def unknown(row: int) -> str:
        near = did_you_mean(rows[row].name, table.classes)
        return f'"{rows[row].name}" is none of the classes{near and f" ({near})"}'

    def outside(row: int) -> str:
        width, height = table.sizes[row].astype(int)
        return f"{box(row)} is not inside the image of {width} x {height}"

    def area(row: int) -> str:
        return f"{box(row)} has no area"

    def numbers(row: int) -> str:
        return f"{box(row)} is not one of four numbers"

    nameless = np.array([not row.name for row in rows], np.bool_)
    flat = _any(table.written[:, 2:] <= table.written[:, :2])
    checks: Sequence[tuple[str, Bools, Callable[[int], str]]] = (
        ("object without name", nameless, lambda row: "it has no name"),
        ("unknown class", table.label < 0, unknown),
        ("box not of four numbers", _any(np.isnan(boxes)), numbers),
        ("box not finite", _any(np.isinf(boxes)), lambda row: f"{box(row)} is not finite"),
        ("box without area", flat, area),
        ("box outside the image", _any(clipped[:, 2:] <= clipped[:, :2]), outside),
    )
    sound = np.ones(len(rows), np.bool_)
    for kind, wrong, what in checks:
        yield Finding(kind, np.flatnonzero(wrong & sound), what)
        sound &= ~wrong
    yield Finding("box partly outside the image", np.flatnonzero(table.over & sound), outside, "clipped")
    overlap, twin = _twins(table, np.flatnonzero(sound))

    def twins(row: int) -> str:
        share = "the same box" if overlap[row] == 1 else f"IoU {overlap[row]:.2f}"
        return f"object {table.number[twin[row]]} is of the same class and place ({share})"

    yield Finding("object listed twice", np.flatnonzero(overlap == 1), twins)
    yield Finding("object annotated twice", np.flatnonzero((overlap >= TWINS) & (overlap < 1)), twins, "kept")
    odd = np.array([row.difficult not in ("", "0", "1") for row in rows], np.bool_)

    def difficult(row: int) -> str:
        return f'difficult is "{rows[row].difficult}", neither 0 nor 1, and taken for 0'

    yield Finding("difficult not 0 or 1", np.flatnonzero(odd & sound), difficult, "kept")


def _twins(table: Table, sound: Ints) -> tuple[Floats, Ints]:
    """Per row how much an earlier one of its image and class overlaps it most, as IoU, and which."""
    overlap, twin = np.zeros(len(table.rows)), np.full(len(table.rows), -1)
    for rows in np.split(sound, np.flatnonzero(np.diff(table.file[sound])) + 1):
        boxes, label = table.boxes[rows], table.label[rows]
        low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
        inner = (high - low).clip(min=0).prod(-1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        iou = np.tril(inner / (area[:, None] + area - inner) * (label[:, None] == label), -1)
        overlap[rows] = iou.max(1, initial=0)
        twin[rows] = rows[iou.argmax(1)] if len(rows) else rows
    return overlap, twin


def _number(text: str) -> float:
    """Not a number where the text is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _any(wrong: Bools) -> Bools:
    """(N, K) -> (N,)"""
    return np.asarray(wrong.any(1), np.bool_)
