"""Images annotated in YOLO's text, on arrays that workers map."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from detcore.errors import DataError
from detcore.interfaces import ClassNames
from detcore_records.dataset import RecordDataset
from detcore_records.files import listing
from detcore_records.record import Bad, Record
from detcore_records.samples import Invalid

from detcore_yolo.description import read_description
from detcore_yolo.reading import read_text


class YOLODataset(RecordDataset):
    """A ``data.yaml``, folders or lists of images, and a text for each image.

    The text of ``images/train/a.jpg`` is ``labels/train/a.txt``: the last folder called ``images`` becomes ``labels``;
    beside the image where there is no such folder. A line is an object: the number of its class, then ``x y width
    height`` of its box, x and y its centre, or x and y of three points or more of its outline, in fractions of the
    image. An image without a text has no object, which is noted.

    For what becomes of objects and flaws, and the other arguments, see :class:`detcore_records.dataset.RecordDataset`.

    Args:
        data: The ``data.yaml``: ``names``, as a list or by number; ``path``, the folder that paths start from, itself
            from the file's folder; and for each split a folder, a text that lists images, or several of them.
        split: Which of its keys.
        root: A folder, instead of its ``path``.
        classes: Some of the names, in the order of their labels; objects of others are left out.
        segmentation: Whether outlines are read; then an object with a box alone is a flaw.
        invalid: What to do about flaws.
        keep_empty: Whether images without an object are kept.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        category_ids: The file's own number by label.
        image_ids: Paths without suffix, from the split's folder; from the root where it has several, or lists.
    """

    _listed: Sequence[tuple[str, str]] = ()

    def __init__(
        self,
        *,
        data: str,
        split: str = "train",
        root: str | None = None,
        classes: ClassNames | None = None,
        segmentation: Literal["none", "polygons"] = "none",
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        described = read_description(Path(data), split, root)
        self.places = described.places
        self.names = described.names
        super().__init__(
            source=data,
            images=str(described.root),
            classes=classes,
            segmentation=segmentation,
            invalid=invalid,
            keep_empty=keep_empty,
            exif=exif,
        )
        numbers = {name: number for number, name in self.names.items()}
        self.category_ids: Sequence[int] = tuple(numbers[name] for name in self.classes)
        self.annotated_classes = {name: numbers[name] for name in self.annotated_classes}
        self._listed = ()  # all is in arrays

    def class_names(self) -> Sequence[str]:
        """Those of the file."""
        return [*self.names.values()]

    def files(self) -> Iterable[str | Path]:
        """Images and their texts, and lists."""
        self._listed = self._listed or [*self._images_listed()]
        root = str(self.folder)
        images = [os.path.join(root, name) for _, name in self._listed]
        return [*self.places, *images, *map(label_path, images)]

    def records(self) -> Iterator[Record | Bad]:
        """One for each image."""
        root = str(self.folder)
        paths = [label_path(os.path.join(root, name)) for _, name in self._listed]
        there = [os.path.isfile(path) for path in paths]
        if paths and not any(there):
            found = f"none of {len(paths)} images has a text: the first would be {paths[0]}"
            raise DataError(str(self.source), found, "The texts of images/a.jpg and of b.jpg: labels/a.txt and b.txt.")
        for (id_, name), path, exists in zip(self._listed, paths, there, strict=True):
            if exists:
                yield from self._record(id_, name, Path(path))
            else:
                yield Bad(path, "there is no such text: the image has no object", "image without text", "kept")
                yield Record(id=id_, file=name, where=path)

    def _images_listed(self) -> Iterator[tuple[str, str]]:
        """Identifier and path from the root."""
        for place in self.places:
            if place.is_dir():
                start = os.path.relpath(place, self.folder)
                for name in listing(place):
                    path = os.path.normpath(f"{start}/{name}")
                    yield os.path.splitext(name if len(self.places) == 1 else path)[0], path
            else:
                for line in _lines(place):
                    root = place.parent if line.startswith(("./", ".\\")) else self.folder
                    path = os.path.relpath(root / line.replace("\\", "/"), self.folder)
                    yield os.path.splitext(path)[0], path

    def _record(self, id_: str, name: str, path: Path) -> Iterator[Record | Bad]:
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            yield Bad(str(path), f"cannot be read as text: {error}", "unreadable text")
            return
        lines = []
        for each in read_text(str(path), text, self.names):
            if isinstance(each, Bad):
                yield each
            else:
                lines.append(each)
        yield Record(
            id=id_,
            file=name,
            boxes=[line.box for line in lines],
            names=[self.names[line.label] for line in lines],
            outlines=[line.outlines for line in lines],
            fractions=True,
            where=str(path),
            lines=[line.number for line in lines],
        )


def label_path(image: str) -> str:
    """Where the text of an image is."""
    folder, name = os.path.split(image)
    parts = folder.replace("\\", "/").split("/")
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return "/".join([*parts, f"{os.path.splitext(name)[0]}.txt"])


def _lines(path: Path) -> list[str]:
    """The lines of a list of images that are not blank."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read as text: {error}", "A list names one image per line.") from error
    return [line for line in lines if line]
