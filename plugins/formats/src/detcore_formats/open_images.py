"""Open Images (Kuznetsova et al., "The Open Images Dataset V4", IJCV 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from detcore.errors import DataError
from detcore.interfaces import ClassNames
from detcore_records.dataset import RecordDataset
from detcore_records.record import Bad, Record
from detcore_records.samples import Invalid

from detcore_formats.gathering import Gathering, read_table

COLUMNS = ("ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax", "IsGroupOf")


class OpenImagesDataset(RecordDataset):
    """A table of boxes, and one of what its classes are called.

    A box of a group of objects (``IsGroupOf``) is a crowd. Only images that have a box are in the table. Boxes are in
    fractions of images, whose files are asked for their size. For what becomes of objects and flaws, and the other
    arguments, see :class:`detcore_records.dataset.RecordDataset`.

    Args:
        source: ``train-annotations-bbox.csv`` or another of its kind.
        images: The folder of images.
        descriptions: ``class-descriptions-boxable.csv``: code and name of each class.
        suffix: Of image files.
        classes: Some of the names, in the order of their labels; objects of others are left out.
        invalid: What to do about flaws.
        keep_empty: Whether images without an object are kept.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        image_ids: ``ImageID``.
    """

    def __init__(
        self,
        *,
        source: str,
        images: str,
        descriptions: str,
        suffix: str = ".jpg",
        classes: ClassNames | None = None,
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        self.descriptions, self.suffix = Path(descriptions), suffix
        super().__init__(
            source=source, images=images, classes=classes, invalid=invalid, keep_empty=keep_empty, exif=exif
        )

    def files(self) -> Iterable[Path]:
        """The table of classes."""
        return [self.descriptions]

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """By code."""
        names: dict[str, str] = {}
        seen: set[str] = set()
        for line, fields in read_table(self.descriptions, ("code", "name"), header=False):
            where = f"{self.descriptions}: line {line}"
            if fields is None or not all(fields):
                raise DataError(where, "not a code and a name", "Is it the right file?")
            if not seen.isdisjoint(fields):
                raise DataError(where, f"{fields[0]}, {fields[1]}: a line before has one of them", "Remove one.")
            seen.update(fields)
            if tuple(fields) != ("LabelName", "DisplayName"):
                names[fields[0]] = fields[1]
        return names

    def class_names(self) -> Sequence[str]:
        """Those of the table of classes."""
        return [*self._names.values()]

    def records(self) -> Iterator[Record | Bad]:
        """One for each image."""
        found = Gathering()
        for line, fields in read_table(self.source, COLUMNS):
            if fields is None:
                yield Bad(f"{self.source}: line {line}", "fewer fields than columns", "unreadable line")
            else:
                image, code, *box, group = fields
                found.add(image, self._names.get(code, code), box, line, group == "1")
        for each in found:
            file = f"{each.image}{self.suffix}"
            yield Record(
                id=each.image,
                file=file,
                boxes=each.boxes,
                names=each.names,
                crowd=each.crowd,
                lines=each.lines,
                fractions=True,
            )
