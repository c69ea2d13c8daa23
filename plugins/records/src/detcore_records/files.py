"""Image files: which are missing, and how large an image is of which nobody says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from detcore.errors import DataError
from detcore.index import Writer
from detcore.report import Finding
from PIL import Image, UnidentifiedImageError

from detcore_records.samples import Ints

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What image files end in, in upper or lower case."""
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and its values with which width is height (Exif 2.3, section 4.6.4)."""
THREADS = 8
"""Files that are waited for at a time."""


def listing(folder: Path) -> list[str]:
    """All image files in a folder and those below it, from the folder, sorted; links to folders are followed."""
    found: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        images = [name for name in names if name.lower().endswith(SUFFIXES)]
        start = os.path.relpath(parent, folder).replace(os.sep, "/")
        found += images if start == "." else [f"{start}/{name}" for name in images]
    return sorted(found)


def file_finding(folder: Path, names: Sequence[str]) -> Finding:
    """Images whose files are not there."""
    absent = np.array(missing(folder, names), np.int64)
    return Finding("missing image file", absent, lambda row: f"there is no file {folder / names[row]}")


def missing(folder: Path, names: Sequence[str]) -> list[int]:
    """Which of the files ``names`` are not in ``folder``, as rows; asks once per folder, not once per file."""
    listings = {parent: _listing(folder / parent) for parent in {os.path.dirname(name) for name in names}}
    absent = (row for row, name in enumerate(names) if os.path.basename(name) not in listings[os.path.dirname(name)])
    return [row for row in absent if not (folder / names[row]).is_file()]  # a file system may ignore upper case


def _listing(folder: Path) -> set[str]:
    try:
        return {*os.listdir(folder)}
    except OSError:
        return set()


def write_sizes(  # noqa: PLR0917 (columns of one table)
    writer: Writer, folder: Path, names: Sequence[str], exif: bool, sizes: Ints, rows: Ints
) -> None:
    """Ask the files of some images how large they are.

    Writes ``sizes`` (I, 2), width and height, and ``meta["problems"]``: why, by row, one has 0.

    Args:
        writer: Where to.
        folder: That the files start from.
        names: (K,) the files.
        exif: Whether images are turned.
        sizes: (I, 2) of all images, those that are known.
        rows: (K,) whose files these are.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = [*pool.map(lambda name: _size(folder / name, exif), names)]
    every = sizes.copy()
    every[rows] = [(0, 0) if isinstance(size, str) else size for size in found]
    writer.add("sizes", every)
    writer.meta["problems"] = [(int(row), size) for row, size in zip(rows, found, strict=True) if isinstance(size, str)]


def image_size(path: Path, exif: bool = False) -> tuple[int, int]:
    """Width and height of an image, of which no more than its beginning is read.

    Raises:
        DataError: The file is missing, or no image.
    """
    size = _size(path, exif)
    if isinstance(size, str):
        raise DataError(str(path), size, "Replace the file.")
    return size


def _size(path: Path, exif: bool) -> tuple[int, int] | str:
    try:
        with path.open("rb") as file, Image.open(file) as image:
            turned = exif and image.getexif().get(ORIENTATION) in TURNED
            return (image.height, image.width) if turned else image.size
    except UnidentifiedImageError:
        return "not an image, or of an unknown format"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"not a sound image: {error}"
