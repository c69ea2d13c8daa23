"""Objects in a CSV, one on each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from detcore.errors import ConfigError
from detcore.interfaces import ClassNames
from detcore_records.dataset import RecordDataset
from detcore_records.record import Bad, Record
from detcore_records.samples import Invalid

from detcore_formats.gathering import Gathering, read_table

COLUMNS = ("image", "xmin", "ymin", "xmax", "ymax", "label")


class CSVDataset(RecordDataset):
    """A table with a line for each object: its image, four numbers in pixels, its class.

    The lines of an image may be anywhere. One whose box and class are empty says that there is an image, which has no
    object if no other line has one. For what becomes of objects and flaws, and the other arguments, see
    :class:`detcore_records.dataset.RecordDataset`.

    Args:
        source: The table.
        images: The folder that its paths of images start from.
        columns: What its columns of the image, of the four numbers and of the class are called; others are left out.
        box: What the four numbers are: ``"corners"``, left, top, right and bottom; or ``"size"``, left, top, width and
            height.
        delimiter: Between fields.
        header: Whether the first line names columns; else they are in the order of ``columns``.
        classes: Names by label; None: all of the table, in the order of the alphabet.
        invalid: What to do about flaws.
        keep_empty: Whether images without an object are kept.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        image_ids: Paths as they are written.
    """

    def __init__(
        self,
        *,
        source: str,
        images: str,
        columns: Sequence[str] = COLUMNS,
        box: Literal["corners", "size"] = "corners",
        delimiter: str = ",",
        header: bool = True,
        classes: ClassNames | None = None,
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        if len(columns) != len(COLUMNS):
            fix = f"They are 6, as in {', '.join(COLUMNS)}."
            raise ConfigError("CSVDataset: columns", f"{len(columns)} names", fix)
        if len(delimiter) != 1:
            raise ConfigError("CSVDataset: delimiter", f'"{delimiter}"', "It is one character.")
        self.columns, self.box, self.delimiter, self.header = tuple(columns), box, delimiter, header
        super().__init__(
            source=source, images=images, classes=classes, invalid=invalid, keep_empty=keep_empty, exif=exif
        )

    def class_names(self) -> None:
        """Those of the table."""
        return None

    def records(self) -> Iterator[Record | Bad]:
        """One for each image."""
        found = Gathering(sizes=self.box == "size")
        for line, fields in read_table(self.source, self.columns, self.delimiter, self.header):
            if fields is None or not fields[0]:
                what = "fewer fields than columns" if fields is None else "names no image"
                yield Bad(f"{self.source}: line {line}", what, "unreadable line")
            elif any(fields[1:]):
                found.add(fields[0], fields[5], fields[1:5], line)
            else:
                found.image(fields[0])
        for group in found:
            image = group.image
            yield Record(id=image, file=image, boxes=group.boxes, names=group.names, lines=group.lines)
