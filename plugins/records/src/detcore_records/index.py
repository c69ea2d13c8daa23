"""Records as flat arrays.

Arrays of I images: ``ids`` (where they are numbers), ``sizes`` (width, height), ``sized`` (whether they are known),
``fractions``, ``offsets`` (I + 1,) where the objects of each begin; texts, each with ``_ends``: ``id_texts`` (where
ids are no numbers), ``names``, ``wheres``. Of N objects: ``boxes`` as they are written, not a number where there are no
four, ``labels`` (the row of ``meta["classes"]``), ``crowd``, ``areas`` (not a number: the box's), ``lines`` (0: none).
Of outlines, where they are wanted: ``points`` (K, 2), ``ends`` (M + 1,) where each begins, ``objects`` (N + 1,) where
those of an object begin. ``meta`` has ``classes``, how many of them are ``declared``, ``bad`` entries, and ``odd``
boxes and outlines by object.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from detcore.errors import ComponentError, DataError
from detcore.index import Array, Arrays, Writer

from detcore_records.record import Bad, Box, Numbers, Record

CHUNK = 1024
"""Records that are kept as Python has them at a time."""


class Texts(Sequence[str]):
    """Texts that lie one after the other in an array.

    Args:
        arrays: Where they are.
        name: Of the array.
        rows: Which of them; None: all.
    """

    def __init__(self, arrays: Mapping[str, Array], name: str, rows: npt.NDArray[np.int64] | None = None) -> None:
        self._text, self._ends, self._rows = arrays[name], arrays[f"{name}_ends"], rows

    def __len__(self) -> int:
        return len(self._ends) - 1 if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """One of them, or some."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        row = index % len(self) if self._rows is None else self._rows[index]
        return self._text[self._ends[row] : self._ends[row + 1]].tobytes().decode(errors="surrogateescape")

    def tolist(self) -> list[str]:
        """All of them."""
        return [*self]


def write_records(
    writer: Writer, records: Iterable[Record | Bad], classes: Sequence[str] | None, outlined: bool
) -> None:
    """Read records, a few at a time, and write their arrays; ``outlined``: their outlines too."""
    arrays = _Records(writer, classes, outlined)
    for part in _chunks(records):
        bad = [each for each in part if isinstance(each, Bad)]
        arrays.bad += [(each.where, each.what, each.kind, each.action) for each in bad]
        arrays.add([each for each in part if isinstance(each, Record)])
    arrays.close()


def unshared(make: Callable[[Writer], None]) -> Arrays:
    """The arrays that ``make`` writes, in a folder that lives as long as they do, for this process and its workers.

    Raises:
        DataError: They cannot be written.
    """
    try:
        keeper = tempfile.TemporaryDirectory(prefix="detcore-", ignore_cleanup_errors=True)
        writer = Writer(Path(keeper.name))
        make(writer)
        writer.close()
    except OSError as error:
        found = f"arrays cannot be written: {error.strerror or error}"
        raise DataError(tempfile.gettempdir(), found, "Make room there.") from error
    return Arrays(writer.folder, keeper)


class _Records:
    """Appends records to arrays."""

    def __init__(self, writer: Writer, classes: Sequence[str] | None, outlined: bool) -> None:
        self.writer, self.declared, self.outlined = writer, classes is not None, outlined
        self.bad: list[tuple[str, str, str, str]] = []
        self.labels = {name: label for label, name in enumerate(classes or ())}
        self.count = len(self.labels)
        self.odd: dict[str, list[tuple[int, str]]] = {"boxes": [], "outlines": []}
        self.kind: type | None = None
        self.objects = 0
        self._lasts: dict[str, int] = {}
        self.add([])

    def add(self, records: Sequence[Record]) -> None:
        add = self.writer.add
        self._add_ids([record.id for record in records])
        self._texts("names", [record.file for record in records])
        self._texts("wheres", [record.where for record in records])
        sizes = [(record.width, record.height) for record in records]
        sized = [None not in size for size in sizes]
        known = [size if known else (0, 0) for size, known in zip(sizes, sized, strict=True)]
        add("sizes", np.array(known, np.int64).reshape(-1, 2))
        add("sized", np.array(sized, np.bool_))
        add("fractions", np.array([record.fractions for record in records], np.bool_))
        self._ends("offsets", [len(record.boxes) for record in records])
        self._add_objects(records)

    def _add_objects(self, records: Sequence[Record]) -> None:
        def column(name: str, filler: Any) -> Iterator[Any]:
            return chain.from_iterable(getattr(each, name) or [filler] * len(each.boxes) for each in records)

        boxes = self._boxes([*column("boxes", None)])
        labels = [self.labels.setdefault(name, len(self.labels)) for name in column("names", "")]
        self.writer.add("boxes", boxes)
        self.writer.add("labels", np.array(labels, np.int32))
        self.writer.add("crowd", np.fromiter(column("crowd", False), np.bool_))
        self.writer.add("areas", np.fromiter(column("areas", np.nan), np.float64))
        self.writer.add("lines", np.fromiter(column("lines", 0), np.int64))
        if self.outlined:
            self._add_outlines([*column("outlines", ())])
        self.objects += len(boxes)

    def _boxes(self, boxes: Sequence[Box]) -> npt.NDArray[np.float64]:
        """(N, 4) at once where all are sound, else one by one."""
        with suppress(TypeError, ValueError):
            numbers = np.array(boxes, np.float64)
            if numbers.shape[1:] == (4,) and np.isfinite(numbers).all():
                return numbers
        each = [self._box(self.objects + at, box) for at, box in enumerate(boxes)]
        return np.array(each, np.float64).reshape(-1, 4)

    def _box(self, row: int, box: Box) -> Numbers:
        try:
            numbers = [float(number) for number in box]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) == 4:
            return numbers
        self.odd["boxes"].append((row, str(box)))
        return [np.nan] * 4

    def _add_outlines(self, objects: Sequence[Sequence[Numbers]]) -> None:
        sound = [self._outlines(self.objects + at, each) for at, each in enumerate(objects)]
        parts = [*chain.from_iterable(sound)]
        self.writer.add("points", np.concatenate([np.zeros((0, 2)), *parts]))
        self._ends("ends", [len(part) for part in parts])
        self._ends("objects", [len(each) for each in sound])

    def _outlines(self, row: int, outlines: Sequence[Numbers]) -> Sequence[npt.NDArray[np.float64]]:
        try:
            arrays = [np.asarray(outline, np.float64) for outline in outlines]
        except (TypeError, ValueError):
            arrays = [np.full(6, np.nan)]
        wrong = "" if arrays else "there is no outline"
        for outline in arrays:
            if outline.ndim != 1 or len(outline) < 6 or len(outline) % 2:
                wrong = f"an outline has {outline.size} numbers, not x and y of three points or more"
            elif not np.isfinite(outline).all():
                wrong = "an outline has a number that is not finite"
        if wrong:
            self.odd["outlines"].append((row, wrong))
        return [] if wrong else [outline.reshape(-1, 2) for outline in arrays]

    def _add_ids(self, ids: Sequence[int | str]) -> None:
        for id_ in ids:
            kind = int if isinstance(id_, int | np.integer) else str
            if self.kind not in (None, kind) or not isinstance(id_, int | np.integer | str):
                raise ComponentError(f"Record {id_!r}", "ids are all whole numbers or all texts")
            self.kind = kind
        numbers = ids if self.kind is int else []
        self.writer.add("ids", np.array(numbers, np.int64))
        self._texts("id_texts", [str(id_) for id_ in ids] if self.kind is str else [])

    def _texts(self, name: str, texts: Sequence[str]) -> None:
        encoded = [text.encode(errors="surrogateescape") for text in texts]
        self.writer.add(name, np.frombuffer(b"".join(encoded), np.uint8))
        self._ends(f"{name}_ends", [*map(len, encoded)])

    def _ends(self, name: str, lengths: Sequence[int]) -> None:
        if name not in self._lasts:
            self._lasts[name] = 0
            self.writer.add(name, np.zeros(1, np.int64))
        ends = np.cumsum([self._lasts[name], *lengths], dtype=np.int64)
        self._lasts[name] = int(ends[-1])
        self.writer.add(name, ends[1:])

    def close(self) -> None:
        self.writer.meta.update(
            classes=[*self.labels], declared=self.count if self.declared else None, bad=self.bad, odd=self.odd
        )


def _chunks(records: Iterable[Record | Bad]) -> Iterator[list[Record | Bad]]:
    part: list[Record | Bad] = []
    for record in records:
        part.append(record)
        if len(part) == CHUNK:
            yield part
            part = []
    yield part
