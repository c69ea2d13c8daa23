"""What can be wrong with the rows of a COCO file; everything is found at once, over arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
from detcore.report import Finding

from detcore_coco.outlines import problem
from detcore_coco.reading import AnnotationRow, CategoryRow, ImageRow, OutlinedRow, Rle

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROUNDING = 1.0
"""Pixels by which a box may stand out over the image's edge, as rounded boxes do; it is left as it is written."""


@attrs.frozen(eq=False)
class Table:
    """The annotations of a file, N rows, in arrays.

    Attributes:
        rows: As they were read.
        image: (N,) the row of the image, -1 where there is none with that id.
        label: (N,) the row of the category, -1 where there is none with that id.
        boxes: (N, 4) float64, x, y, width, height; not a number where the row has no four numbers.
        sizes: (N, 2) float64, width and height of the image.
    """

    rows: Sequence[AnnotationRow]
    image: Ints
    label: Ints
    boxes: Floats
    sizes: Floats

    @property
    def clipped(self) -> Floats:
        """(N, 4) the boxes with what is outside the image cut off."""
        low = np.maximum(self.boxes[:, :2], 0)
        high = np.minimum(self.boxes[:, :2] + self.boxes[:, 2:], self.sizes)
        return np.concatenate([low, high - low], 1)


def tabulate(rows: Sequence[AnnotationRow], images: Sequence[ImageRow], categories: Sequence[CategoryRow]) -> Table:
    """Annotations as arrays, joined with images and categories by id."""
    image = _rows_of((row.image_id for row in rows), [image.id for image in images], len(rows))
    label = _rows_of((row.category_id for row in rows), [category.id for category in categories], len(rows))
    whole = np.fromiter((len(row.bbox) == 4 for row in rows), np.bool_, len(rows))
    boxes = np.full((len(rows), 4), np.nan)
    numbers = chain.from_iterable(row.bbox for row in rows if len(row.bbox) == 4)
    boxes[whole] = np.fromiter(numbers, np.float64).reshape(-1, 4)
    sizes = np.array([(image.width, image.height) for image in images] or [(0, 0)], np.float64)[image]
    return Table(rows, image, label, boxes, sizes)


def image_findings(images: Sequence[ImageRow], folder: Path) -> Iterator[Finding]:
    """What is wrong with the list of images."""
    ids = np.array([image.id for image in images], np.int64)
    first = np.unique(ids, return_index=True)[1]
    again = np.setdiff1d(np.arange(len(ids)), first)
    yield Finding("image id used twice", again, lambda row: "another image has the same id")
    sizes = np.array([(image.width, image.height) for image in images]).reshape(-1, 2)
    flat = np.flatnonzero((sizes <= 0).any(1))
    yield Finding("image without size", flat, lambda row: f"width {images[row].width}, height {images[row].height}")
    absent = np.array(_missing(folder, [image.file_name for image in images]), np.int64)
    yield Finding("missing image file", absent, lambda row: f"there is no file {folder / images[row].file_name}")


def annotation_findings(table: Table) -> Iterator[Finding]:
    """What is wrong with annotations; a row has at most one of these."""
    rows, boxes = table.rows, table.boxes

    def box(row: int) -> str:
        return f"the box {rows[row].bbox} (x, y, width, height)"

    def of_numbers(row: int) -> str:
        return f"{box(row)} is not one of four numbers"

    def outside(row: int) -> str:
        width, height = table.sizes[row].astype(int)
        return f"{box(row)} is not inside the image of {width} x {height}"

    clipped = table.clipped
    checks: Sequence[tuple[str, Bools, Callable[[int], str], str]] = (
        ("unknown image", table.image < 0, lambda row: f"there is no image {rows[row].image_id}", "dropped"),
        ("unknown category", table.label < 0, lambda row: f"there is no category {rows[row].category_id}", "dropped"),
        ("box not of four numbers", np.array([len(row.bbox) != 4 for row in rows], np.bool_), of_numbers, "dropped"),
        ("box not finite", _any(~np.isfinite(boxes)), lambda row: f"{box(row)} is not finite", "dropped"),
        ("box without area", _any(boxes[:, 2:] <= 0), lambda row: f"{box(row)} has no area", "dropped"),
        ("box outside the image", _any(clipped[:, 2:] <= 0), outside, "dropped"),
        ("box partly outside the image", _any(boxes[:, 2:] - clipped[:, 2:] > ROUNDING), outside, "clipped"),
    )
    sound = np.ones(len(rows), np.bool_)
    for kind, wrong, what, action in checks:
        yield Finding(kind, np.flatnonzero(wrong & sound), what, action)
        sound &= ~wrong


def outline_findings(rows: Sequence[OutlinedRow], sizes: Floats, polygons: bool) -> Iterator[Finding]:
    """What is wrong with outlines and masks; ``polygons``: masks of single objects are of no use either."""
    found: dict[int, str] = {}
    for row, (annotation, (width, height)) in enumerate(zip(rows, sizes.astype(int).tolist(), strict=True)):
        if polygons and isinstance(annotation.segmentation, Rle) and not annotation.iscrowd:
            found[row] = 'the object has a mask and no outline (segmentation = "masks" reads both)'
        elif what := problem(annotation.segmentation, (height, width)):
            found[row] = what
    yield Finding("unusable outline", np.array([*found], np.int64), found.__getitem__)


def _rows_of(ids: Iterator[int], known: Sequence[int], count: int) -> Ints:
    row_of: Mapping[int, int] = {id_: row for row, id_ in reversed([*enumerate(known)])}
    return np.fromiter((row_of.get(id_, -1) for id_ in ids), np.int64, count)


def _missing(folder: Path, names: Sequence[str]) -> list[int]:
    """Which of the files ``names`` are not in ``folder``, as rows; asks once per folder, not once per file."""
    listings = {parent: _listing(folder / parent) for parent in {os.path.dirname(name) for name in names}}
    absent = (row for row, name in enumerate(names) if os.path.basename(name) not in listings[os.path.dirname(name)])
    return [row for row in absent if not (folder / names[row]).is_file()]  # a file system may ignore upper case


def _listing(folder: Path) -> set[str]:
    try:
        return {*os.listdir(folder)}
    except OSError:
        return set()


def _any(wrong: Bools) -> Bools:
    """(N, K) -> (N,)"""
    return np.asarray(wrong.any(1), np.bool_)
