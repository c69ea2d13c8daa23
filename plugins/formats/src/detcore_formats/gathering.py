"""Objects that come in any order, one on each line, put together by image; millions of them fit into memory."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np
from detcore.errors import DataError, did_you_mean
from detcore_records.record import Box


@attrs.frozen(eq=False)
class Group:
    """The N objects of an image, in the file's order.

    Attributes:
        image: What the lines call it.
        names: (N,) classes.
        boxes: (N,) of four numbers; or what was written, where one of them is none.
        crowd: (N,).
        lines: (N,) where they are.
    """

    image: str
    names: Sequence[str]
    boxes: Sequence[Box]
    crowd: Sequence[bool]
    lines: Sequence[int]


class Gathering:
    """Takes lines; gives groups, in the order in which their images came first.

    Args:
        sizes: Whether boxes are left, top, width and height instead of left, top, right and bottom.
    """

    def __init__(self, sizes: bool = False) -> None:
        self.sizes = sizes
        self._images: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._rows, self._boxes, self._odd = array("q"), array("d"), dict[int, Sequence[str]]()

    def image(self, name: str) -> int:
        """There is such an image, which may have no object."""
        return self._images.setdefault(name, len(self._images))

    def add(self, image: str, name: str, box: Sequence[str], line: int, crowd: bool = False) -> None:
        """An object."""
        try:
            numbers = [float(number) for number in box]
        except ValueError:
            numbers = [0.0] * 4
            self._odd[len(self._boxes) // 4] = box
        if self.sizes:
            numbers[2:] = numbers[0] + numbers[2], numbers[1] + numbers[3]
        self._boxes.extend(numbers)
        self._rows.extend((self.image(image), self._names.setdefault(name, len(self._names)), line, crowd))

    def __iter__(self) -> Iterator[Group]:
        rows = np.array(self._rows, np.int64).reshape(-1, 4)
        boxes = np.array(self._boxes, np.float64).reshape(-1, 4)
        order = np.argsort(rows[:, 0], kind="stable")
        ends = np.searchsorted(rows[order, 0], np.arange(len(self._images) + 1))
        names = [*self._names]
        for at, image in enumerate(self._images):
            of = order[ends[at] : ends[at + 1]]
            _, labels, lines, crowd = rows[of].T.tolist() if len(of) else ([], [], [], [])
            numbers = boxes[of].tolist()
            yield Group(
                image=image,
                names=[names[label] for label in labels],
                boxes=[self._odd.get(row, box) for row, box in zip(of.tolist(), numbers, strict=True)],
                crowd=[bool(each) for each in crowd],
                lines=lines,
            )


def read_table(
    path: Path, columns: Sequence[str], delimiter: str = ",", header: bool = True
) -> Iterator[tuple[int, Sequence[str] | None]]:
    """The number of each line that is not blank, and its fields of these columns; None where it has fewer.

    Args:
        path: Of the table.
        columns: Names in its header; without one, the columns that it begins with.
        delimiter: Between fields.
        header: Whether its first line names columns.

    Raises:
        DataError: It cannot be read, is no table in UTF-8, or has no such column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            places = _places(path, next(reader, []), columns) if header else range(len(columns))
            for fields in reader:
                if fields:
                    whole = len(fields) > max(places)
                    yield reader.line_num, [fields[place].strip() for place in places] if whole else None
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(str(path), "not a table: not a text in UTF-8", "Is it the right file?") from error
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}", f"not a table: {error}", "Is it the right file?") from error


def _places(path: Path, header: Sequence[str], columns: Sequence[str]) -> Sequence[int]:
    names = [name.strip() for name in header]
    for column in columns:
        if column not in names:
            near = did_you_mean(column, names) or f"It has {', '.join(names) or 'nothing'}."
            raise DataError(f"{path}: line 1", f'no column is called "{column}"', near)
    return [names.index(column) for column in columns]
