"""COCO's JSON, decoded into typed rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import msgspec
from detcore.errors import DataError

T = TypeVar("T")


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


class CocoFile(msgspec.Struct):
    """An instances file without its outlines."""

    images: list[ImageRow]
    annotations: list[AnnotationRow]
    categories: list[CategoryRow]


class OutlinedFile(msgspec.Struct):
    """An instances file with outlines."""

    images: list[ImageRow]
    annotations: list[OutlinedRow]
    categories: list[CategoryRow]


def read(path: Path, kind: type[T]) -> T:
    """The JSON file as a ``kind``.

    ``NaN`` and ``Infinity``, which Python writes and JSON forbids, are read, so that the row they are in can be named.

    Raises:
        DataError: No such file, not JSON (with line and column), or not a ``kind`` (with the place in it).
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}", "Check the path.") from error
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise _not_coco(path, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read_leniently(path, text, kind)


def _read_leniently(path: Path, text: bytes, kind: type[T]) -> T:
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


def _not_coco(path: Path, error: msgspec.ValidationError) -> DataError:
    problem, _, place = str(error).partition(" - at ")
    where = f"{path}: {place.strip('`').removeprefix('$').removeprefix('.')}" if place else str(path)
    return DataError(where.removesuffix(": "), problem, "COCO's format has images, annotations and categories.")
