"""COCO's JSON, decoded into typed rows."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from detcore.errors import DataError

T = TypeVar("T")
ImageT = TypeVar("ImageT", bound="ImageRow")


class ImageRow(msgspec.Struct, gc=False):
    """An entry of ``images``."""

    id: int
    file_name: str
    width: int
    height: int


class CategoryRow(msgspec.Struct, gc=False):
    """An entry of ``categories``."""

    id: int
    name: str


class Rle(msgspec.Struct, gc=False):
    """A run-length encoded mask: ``size`` is height and width; ``counts`` are numbers, or a text that packs them."""

    size: tuple[int, int]
    counts: str | list[int]


Segmentation = list[list[float]] | Rle


class AnnotationRow(msgspec.Struct, gc=False):
    """An entry of ``annotations``; ``bbox`` is x, y, width, height."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float | None = None
    iscrowd: int | bool = 0


class OutlinedRow(AnnotationRow, gc=False):
    """An entry of ``annotations`` with its outlines or mask, which are decoded only where they are asked for."""

    segmentation: Segmentation = msgspec.field(default_factory=list)


class Head(msgspec.Struct, Generic[ImageT]):
    """An instances file, its annotations not yet decoded."""

    images: list[ImageT]
    annotations: msgspec.Raw
    categories: list[CategoryRow]


class PlainFile(msgspec.Struct, Generic[ImageT]):
    """An instances file, decoded at once, without its outlines."""

    images: list[ImageT]
    annotations: list[AnnotationRow]
    categories: list[CategoryRow]


class OutlinedFile(msgspec.Struct, Generic[ImageT]):
    """An instances file, decoded at once."""

    images: list[ImageT]
    annotations: list[OutlinedRow]
    categories: list[CategoryRow]


CHUNK = 256
"""Annotations that are decoded at a time: so few that their numbers stay in the processor's cache."""

Chunks = Iterator[Sequence[AnnotationRow]]


def read_rows(
    path: Path, outlined: bool, image: type[ImageT]
) -> tuple[Sequence[ImageT], Sequence[CategoryRow], Chunks]:
    """Images, categories, and the annotations a few at a time, in the file's order.

    ``NaN`` and ``Infinity``, which Python writes and JSON forbids, are read, so that the row they are in can be named.

    Args:
        path: The JSON file.
        outlined: Whether segmentations are read; else they are empty, and what is in them does not matter.
        image: What an entry of ``images`` has.

    Raises:
        DataError: No such file, not JSON (with line and column), or not COCO's (with the place in it).
    """
    text = _open(path)
    try:
        head: Head[ImageT] = msgspec.json.decode(text, type=Head[image])  # type: ignore[valid-type]  # chosen at run time
        rows = msgspec.json.decode(head.annotations, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind: Any = OutlinedFile[image] if outlined else PlainFile[image]  # type: ignore[valid-type]  # likewise
        whole = _decode(path, text, kind)
        return whole.images, whole.categories, iter([whole.annotations])
    return head.images, head.categories, _chunks(path, rows, outlined)


def _chunks(path: Path, rows: Sequence[msgspec.Raw], outlined: bool) -> Chunks:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[OutlinedRow] if outlined else list[AnnotationRow])
    for begin in range(0, len(rows), CHUNK):
        text = b"[%b]" % b",".join(rows[begin : begin + CHUNK])
        try:
            yield decoder.decode(text)
        except msgspec.ValidationError as error:
            raise _not_coco(path, error, begin) from error


def read(path: Path, kind: type[T]) -> T:
    """The JSON file as a ``kind``, at once; see :func:`read_rows`."""
    return _decode(path, _open(path), kind)


def _open(path: Path) -> bytes | mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}", "Check the path.") from error


def _decode(path: Path, text: bytes | mmap.mmap, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise _not_coco(path, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _decode_leniently(path, text[:], kind)


def _decode_leniently(path: Path, text: bytes, kind: type[T]) -> T:
    try:
        return msgspec.convert(json.loads(text), kind)
    except json.JSONDecodeError as error:
        where = f"{path}: line {error.lineno}, column {error.colno}"
        raise DataError(where, f"not JSON: {error.msg}", "Is the file complete?") from error
    except UnicodeDecodeError as error:
        where = f"{path}: byte {error.start}"
        raise DataError(where, "not JSON: not a text in UTF-8", "Is it the right file?") from error
    except msgspec.ValidationError as error:
        raise _not_coco(path, error) from error


def _not_coco(path: Path, error: msgspec.ValidationError, begin: int | None = None) -> DataError:
    """``begin``: of what annotation the error's first one is."""
    problem, _, place = str(error).partition(" - at ")
    if begin is not None:
        place = re.sub(r"^`?\$\[(\d+)\]", lambda match: f"annotations[{begin + int(match[1])}]", place)
    where = f"{path}: {place.strip('`').removeprefix('$').removeprefix('.')}" if place else str(path)
    return DataError(where.removesuffix(": "), problem, "COCO's format has images, annotations and categories.")
