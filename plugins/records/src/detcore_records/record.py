"""What a format says of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from detcore.errors import ComponentError

Numbers = Sequence[float]
Box = Numbers | Sequence[str]
"""Left, top, right and bottom; texts do, so that what is no number can be shown as it is written."""


@attrs.frozen(kw_only=True)
class Record:
    """An image and its N objects.

    What is wrong with it is found by whoever takes it: numbers may be any, files missing, names unknown.

    Attributes:
        id: Its own, a number in all records or a text in all.
        file: Its path from the folder of images.
        width: In pixels, before anything is turned; None: the image is asked.
        height: Likewise.
        boxes: (N, 4) left, top, right, bottom, in pixels from the image's corner.
        names: (N,) the class of each.
        crowd: (N,) whether an object counts neither for nor against: a crowd, a difficult one; empty: none.
        areas: (N,) in square pixels; empty: those of the boxes.
        outlines: (N,) the closed outlines of each, as x, y, x, y, ...; empty: there are none.
        fractions: Whether boxes and outlines are in fractions of width and height instead.
        where: Its own file of annotations, for messages; empty: the dataset's source.
        lines: (N,) the line that each object is on, from 1, for messages (what is no line in a format is called as
            ``RecordDataset.UNIT`` says); empty: objects are counted.
    """

    id: int | str
    file: str
    width: int | None = None
    height: int | None = None
    boxes: Sequence[Box] = ()
    names: Sequence[str] = ()
    crowd: Sequence[bool] = ()
    areas: Numbers = ()
    outlines: Sequence[Sequence[Numbers]] = ()
    fractions: bool = False
    where: str = ""
    lines: Sequence[int] = ()

    def __attrs_post_init__(self) -> None:
        count = len(self.boxes)
        for name in ("names", "crowd", "areas", "outlines", "lines"):
            rows = len(getattr(self, name))
            if rows != count and (rows or name == "names"):
                raise ComponentError(f"Record {self.id!r}", f"{count} boxes, but {rows} {name}")


@attrs.frozen
class Bad:
    """An entry that cannot be made a record, or an object of one, of.

    Attributes:
        where: The file and what of it, e.g. ``labels/a.txt: line 3``.
        what: What was found, e.g. ``3 numbers, not 5``.
        kind: What flaws are counted by, e.g. ``unreadable line``.
        action: What is done about it where flaws are skipped; ``kept``, of what is only odd: noted in any case.
    """

    where: str
    what: str
    kind: str
    action: str = "dropped"


def plain(value: Any) -> Any:
    """Arrays and tensors as lists, numbers of theirs as numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def corners(box: Box) -> Box:
    """Left, top, right, bottom, of left, top, width, height; what is not four numbers, as it is."""
    try:
        left, top, width, height = map(float, box)
    except ValueError:
        return box
    return left, top, left + width, top + height


def extent(outlines: Sequence[Numbers]) -> Numbers:
    """The box around all points of an object's outlines; not a number where there is no point."""
    points = np.array([number for outline in outlines for number in outline[: len(outline) // 2 * 2]], np.float64)
    if not len(points):
        return (float("nan"),) * 4
    pairs = points.reshape(-1, 2)
    return [*pairs.min(0).tolist(), *pairs.max(0).tolist()]
