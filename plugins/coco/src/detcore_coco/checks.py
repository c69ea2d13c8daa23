"""The annotations of a COCO file as arrays, and what can be wrong with them; everything is found at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import attrgetter

import numpy as np
import numpy.typing as npt
from detcore.report import Finding

from detcore_coco.reading import AnnotationRow, CategoryRow, ImageRow

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NUMBERS = attrgetter("id", "image_id", "category_id", "iscrowd")
ROUNDING = 1.0
"""Pixels by which a box may stand out over the image's edge, as rounded boxes do; it is left as it is written."""


class Table:
    """The annotations of a file, N rows, as arrays, joined with I images and the categories by id.

    Args:
        images: All of the file.
        categories: All of the file.

    Attributes:
        image_sizes: (I, 2) int64, width and height.
        ids: (N,) as they are written.
        image_refs: (N,) the id of the image that each names, and
        category_refs: (N,) of the category.
        image: (N,) the row of the image, -1 where there is none with that id.
        label: (N,) the row of the category, -1 where there is none with that id.
        boxes: (N, 4) float64, x, y, width, height; not a number where the row has no four numbers.
        odd: What such rows have for a box.
        areas: (N,) float64, not a number where none is written.
        crowd: (N,)
    """

    ids: Ints
    image_refs: Ints
    category_refs: Ints
    image: Ints
    label: Ints
    boxes: Floats
    areas: Floats
    crowd: Bools

    def __init__(self, images: Sequence[ImageRow], categories: Sequence[CategoryRow]) -> None:
        self.image_sizes = np.array([(image.width, image.height) for image in images], np.int64).reshape(-1, 2)
        self.odd: dict[int, list[float]] = {}
        self._image_row = _Rows([image.id for image in images])
        self._category_row = _Rows([category.id for category in categories])
        self._chunks: list[tuple[Ints, Floats, Floats]] = []
        self._count = 0

    def add(self, rows: Sequence[AnnotationRow]) -> Ints:
        """Append rows; returns those of their images."""
        if not rows:
            return np.zeros(0, np.int64)
        boxes = [row.bbox for row in rows]
        odd = {at: box for at, box in enumerate(boxes) if len(box) != 4}
        for at in odd:
            boxes[at] = [math.nan] * 4
        areas = [math.nan if row.area is None else row.area for row in rows]
        numbers = np.fromiter(chain.from_iterable(map(NUMBERS, rows)), np.int64).reshape(-1, 4)
        corners = np.fromiter(chain.from_iterable(boxes), np.float64).reshape(-1, 4)
        self._chunks.append((numbers, corners, np.array(areas, np.float64)))
        self.odd.update({self._count + at: box for at, box in odd.items()})
        self._count += len(rows)
        return self._image_row(self._chunks[-1][0][:, 1])

    def end(self) -> None:
        """Put the rows that were appended together."""
        none = (np.zeros((0, 4), np.int64), np.zeros((0, 4)), np.zeros(0))
        numbers, self.boxes, self.areas = (
            np.concatenate(column) for column in zip(*(self._chunks or [none]), strict=True)
        )
        self._chunks.clear()
        self.ids, self.image_refs, self.category_refs, crowd = (np.ascontiguousarray(each) for each in numbers.T)
        self.crowd = crowd.astype(np.bool_)
        self.image, self.label = self._image_row(self.image_refs), self._category_row(self.category_refs)

    @property
    def sizes(self) -> Floats:
        """(N, 2) width and height of the image; of some other where there is none."""
        return (
            self.image_sizes[self.image].astype(np.float64) if len(self.image_sizes) else np.zeros((len(self.ids), 2))
        )

    @property
    def clipped(self) -> Floats:
        """(N, 4) the boxes with what is outside the image cut off."""
        low = np.maximum(self.boxes[:, :2], 0)
        high = np.minimum(self.boxes[:, :2] + self.boxes[:, 2:], self.sizes)
        return np.concatenate([low, high - low], 1)

    def box(self, row: int) -> str:
        """How it is written, with its meaning."""
        return f"the box {self.odd.get(row) or self.boxes[row].tolist()} (x, y, width, height)"


class _Rows:
    """(N,) ids -> (N,) the first of the rows that have them, -1 where none has."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids, self.rows = np.unique(np.array(ids, np.int64), return_index=True)

    def __call__(self, wanted: Ints) -> Ints:
        if not len(self.ids):
            return np.full(len(wanted), -1)
        at = np.searchsorted(self.ids, wanted).clip(max=len(self.ids) - 1)
        return np.where(self.ids[at] == wanted, self.rows[at], -1)


def image_findings(images: Sequence[ImageRow]) -> Iterator[Finding]:
    """What is wrong with the list of images."""
    ids = np.array([image.id for image in images], np.int64)
    first = np.unique(ids, return_index=True)[1]
    again = np.setdiff1d(np.arange(len(ids)), first)
    yield Finding("image id used twice", again, lambda row: "another image has the same id")
    sizes = np.array([(image.width, image.height) for image in images]).reshape(-1, 2)
    flat = np.flatnonzero((sizes <= 0).any(1))
    yield Finding("image without size", flat, lambda row: f"width {images[row].width}, height {images[row].height}")


def annotation_findings(table: Table) -> Iterator[Finding]:
    """What is wrong with annotations; a row has at most one of these."""
    boxes, clipped, sizes = table.boxes, table.clipped, table.sizes
    whole = np.ones(len(boxes), np.bool_)
    whole[[*table.odd]] = False

    def outside(row: int) -> str:
        width, height = sizes[row].astype(int)
        return f"{table.box(row)} is not inside the image of {width} x {height}"

    checks: Sequence[tuple[str, Bools, Callable[[int], str], str]] = (
        ("unknown image", table.image < 0, lambda row: f"there is no image {table.image_refs[row]}", "dropped"),
        (
            "unknown category",
            table.label < 0,
            lambda row: f"there is no category {table.category_refs[row]}",
            "dropped",
        ),
        ("box not of four numbers", ~whole, lambda row: f"{table.box(row)} is not one of four numbers", "dropped"),
        ("box not finite", _any(~np.isfinite(boxes)), lambda row: f"{table.box(row)} is not finite", "dropped"),
        ("box without area", _any(boxes[:, 2:] <= 0), lambda row: f"{table.box(row)} has no area", "dropped"),
        ("box outside the image", _any(clipped[:, 2:] <= 0), outside, "dropped"),
        ("box partly outside the image", _any(boxes[:, 2:] - clipped[:, 2:] > ROUNDING), outside, "clipped"),
    )
    sound = np.ones(len(boxes), np.bool_)
    for kind, wrong, what, action in checks:
        yield Finding(kind, np.flatnonzero(wrong & sound), what, action)
        sound &= ~wrong


def _any(wrong: Bools) -> Bools:
    """(N, K) -> (N,)"""
    return np.asarray(wrong.any(1), np.bool_)
