"""Pascal VOC's files, as they are written: what is wrong in them is judged elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import attrs
from detcore.errors import DataError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@attrs.frozen
class Entry:
    """An ``object`` of a file: stripped texts, empty where there is none.

    Attributes:
        name: Of its class.
        corners: ``xmin``, ``ymin``, ``xmax``, ``ymax``.
        difficult: 0 or 1.
    """

    name: str
    corners: tuple[str, ...]
    difficult: str


@attrs.frozen
class Sheet:
    """An annotation file.

    Attributes:
        filename: Of the image, as the file has it.
        size: ``width`` and ``height``.
        objects: In the file's order.
    """

    filename: str
    size: tuple[str, str]
    objects: tuple[Entry, ...]


def read(path: Path) -> Sheet:
    """An annotation file.

    Raises:
        DataError: It cannot be read, is not XML (with line and column), has a document type, or is not VOC's.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise DataError(str(path), f"the outermost element is <{root.tag}>, not <annotation>", "Is it a VOC file?")
    objects = tuple(
        Entry(_text(each, "name"), tuple(_text(each, f"bndbox/{tag}") for tag in CORNERS), _text(each, "difficult"))
        for each in root.iterfind("object")
    )
    return Sheet(_text(root, "filename"), (_text(root, "size/width"), _text(root, "size/height")), objects)


def read_lines(path: Path) -> list[str]:
    """The lines of a text that are not blank, stripped.

    Raises:
        DataError: It cannot be read, is no text in UTF-8, or has no such line.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}", "Check root and split.") from error
    except UnicodeDecodeError as error:
        raise DataError(str(path), "not a text in UTF-8", "A split lists one image name per line.") from error
    if not any(lines):
        raise DataError(str(path), "lists no image", "A split lists one image name per line.")
    return [line for line in lines if line]


def _parse(path: Path) -> Element:
    """The file's tree. Expat is fed directly: ElementTree's own parser would expand entities without end."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> NoReturn:
        found = "has a document type (DTD), which VOC's files have not and which may expand without end"
        raise DataError(str(path), found, "Remove it.")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}", "Check the file.") from error
    except expat.ExpatError as error:
        found = f"not XML: {expat.ErrorString(error.code)} (line {error.lineno}, column {error.offset})"
        raise DataError(str(path), found, "Is the file complete?") from error
    except (LookupError, ValueError) as error:
        raise DataError(str(path), f"not XML that can be read: {error}", "Write it in UTF-8.") from error


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
