"""Which annotation file goes with which image."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import attrs
from detcore.errors import DataError
from detcore_records.files import SUFFIXES

from detcore_voc.reading import Sheet, read


@attrs.frozen(eq=False)
class File:
    """An annotation file and its image.

    Attributes:
        path: Of the annotations.
        stem: Its name without suffix, from the folder of annotations; the image has the same in its own folder.
        images: The names of image files with this stem, from their folder.
        sheet: What the file says; nothing where it cannot be read.
        problem: Why it cannot be read, or empty.
    """

    path: Path
    stem: str
    images: Sequence[str]
    sheet: Sheet
    problem: str

    @property
    def image(self) -> str:
        """The image: the only one with the stem, else the one that the file names; empty where that is none."""
        named = [image for image in self.images if os.path.basename(image) == self.sheet.filename]
        return next(iter(self.images if len(self.images) == 1 else named), "")


def stems(folder: Path) -> list[str]:
    """The names of all XML files in a folder and those below it, without suffix, sorted."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.xml"))


def find(annotations: Path, images: Path, names: Collection[str]) -> list[File]:
    """Read the annotation files of these stems and look for their images; a folder is asked once, not for each file."""
    listings = {parent: _listing(images, parent) for parent in {os.path.dirname(name) for name in names}}
    return [_file(annotations / f"{name}.xml", name, listings[os.path.dirname(name)].get(name, ())) for name in names]


def _file(path: Path, stem: str, images: Sequence[str]) -> File:
    try:
        return File(path, stem, images, read(path), "")
    except DataError as error:
        return File(path, stem, images, Sheet("", ("", ""), ()), error.found)


def _listing(folder: Path, parent: str) -> Mapping[str, Sequence[str]]:
    """Names of images by stem."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder / parent)) if (folder / parent).is_dir() else ():
        stem, suffix = os.path.splitext(posixpath.join(parent, name))
        if suffix.lower() in SUFFIXES:
            found.setdefault(stem, []).append(stem + suffix)
    return found
