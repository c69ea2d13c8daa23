"""What can be wrong with images and their objects; everything is found at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from detcore.errors import did_you_mean
from detcore.report import Finding

from detcore_records.samples import Bools, Floats, Ints

ROUNDING = 1.0
"""Pixels by which a box may stand out over the image's edge, as rounded boxes do; it is left as it is written."""


def clip(boxes: Floats, sizes: Floats) -> tuple[Floats, Bools]:
    """Boxes (N, 4) XYXY in images of ``sizes`` (N, 2), width and height, cut off; and which stand out by more than
    rounding."""
    clipped = np.concatenate([np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], sizes)], 1)
    return clipped, _any((boxes < clipped - ROUNDING) | (boxes > clipped + ROUNDING))


@attrs.frozen(eq=False)
class Table:
    """The objects of all images, N rows.

    Attributes:
        boxes: (N, 4) XYXY in pixels.
        sizes: (N, 2) float64, width and height of the image.
        labels: (N,) the row of ``names``.
        names: All that there are.
        known: Those that are classes.
        odd: What there is instead of a box, by row.
    """

    boxes: Floats
    sizes: Floats
    labels: Ints
    names: Sequence[str]
    known: Collection[str]
    odd: Mapping[int, str]

    def box(self, row: int) -> str:
        """How it is written, with its meaning."""
        written = self.odd.get(row) or [round(number, 2) for number in self.boxes[row].tolist()]
        return f"the box {written} (left, top, right, bottom)"


def image_findings(ids: Sequence[Any], absent: Finding, sizes: Ints, problems: Mapping[int, str]) -> Iterator[Finding]:
    """What is wrong with images; a row has at most one of these.

    Args:
        ids: Of I images.
        absent: Those without a file.
        sizes: (I, 2) width and height.
        problems: Why some of them have no size.
    """
    first = np.unique(np.asarray(ids), return_index=True)[1]
    again = np.setdiff1d(np.arange(len(ids)), first)
    findings = (
        absent,
        Finding("image id used twice", again, lambda row: f"an image before it has the id {ids[row]!r} too"),
        Finding("unreadable image", _rows(problems), lambda row: f"its size cannot be read: {problems[row]}"),
        Finding("image without size", *_flat(sizes)),
    )
    sound = np.ones(len(ids), np.bool_)
    for each in findings:
        yield attrs.evolve(each, rows=each.rows[sound[each.rows]])
        sound[each.rows] = False


def _flat(sizes: Ints) -> tuple[Ints, Callable[[int], str]]:
    return np.flatnonzero((sizes <= 0).any(1)), lambda row: f"width {sizes[row, 0]}, height {sizes[row, 1]}"


def _rows(told: Mapping[int, str]) -> Ints:
    return np.array([*told], np.int64)


def object_findings(table: Table) -> Iterator[Finding]:
    """What is wrong with objects; a row has at most one of these."""
    boxes = table.boxes
    clipped, over = clip(boxes, table.sizes)

    def unknown(row: int) -> str:
        name = table.names[table.labels[row]]
        near = did_you_mean(name, table.known)
        return f'"{name}" is none of the classes{near and f" ({near})"}'

    def outside(row: int) -> str:
        width, height = table.sizes[row].astype(int)
        return f"{table.box(row)} is not inside the image of {width} x {height}"

    odd = np.zeros(len(boxes), np.bool_)
    odd[[*table.odd]] = True
    empty = np.array([not name for name in table.names], np.bool_)
    strange = np.array([name not in table.known for name in table.names], np.bool_)
    flat = _any(boxes[:, 2:] <= boxes[:, :2])
    checks: Sequence[tuple[str, Bools, Callable[[int], str], str]] = (
        ("object without name", empty[table.labels], lambda row: "it has no name", "dropped"),
        ("unknown class", strange[table.labels], unknown, "dropped"),
        ("box not of four numbers", odd, lambda row: f"{table.box(row)} is not one of four numbers", "dropped"),
        ("box not finite", _any(~np.isfinite(boxes)), lambda row: f"{table.box(row)} is not finite", "dropped"),
        ("box without area", flat, lambda row: f"{table.box(row)} has no area", "dropped"),
        ("box outside the image", _any(clipped[:, 2:] <= clipped[:, :2]), outside, "dropped"),
        ("box partly outside the image", over, outside, "clipped"),
    )
    sound = np.ones(len(boxes), np.bool_)
    for kind, wrong, what, action in checks:
        yield Finding(kind, np.flatnonzero(wrong & sound), what, action)
        sound &= ~wrong


def _any(wrong: Bools) -> Bools:
    """(N, K) -> (N,)"""
    return np.asarray(wrong.any(1), np.bool_)
