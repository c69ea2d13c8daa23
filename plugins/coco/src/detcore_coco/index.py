"""A COCO file as flat arrays: what it says, joined by id, with what is wrong with it.

Arrays of I images: ``image_ids``, ``image_sizes`` (width, height), ``names`` and ``name_ends`` (UTF-8, one after the
other). Of A annotations, in the file's order: ``ids``, ``images`` (the row of the image, -1 for none), ``image_refs``
(the id that they name), ``categories`` (the row, -1 for none), ``boxes`` (x, y, width, height; what is outside the
image by more than rounding is cut off), ``areas``, ``crowd``; and ``order`` with ``offsets`` (I + 1,): those of an
image. Of outlines: see :class:`detcore_coco.outlines.Outlines`. ``meta`` has the categories and the findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from detcore.index import Arrays, Writer, indexed
from detcore.report import Finding

from detcore_coco.checks import ROUNDING, Table, annotation_findings, image_findings
from detcore_coco.outlines import OutlineWriter
from detcore_coco.reading import ImageRow, read_rows

VERSION = 1


@attrs.frozen
class Dialect:
    """A format that is COCO's but for what its images have.

    Attributes:
        name: With the version of how it is read.
        image: An entry of ``images``.
        write: Adds arrays of these entries.
    """

    name: str
    image: type[ImageRow]
    write: Callable[[Writer, Sequence[Any]], None] = lambda writer, images: None


COCO = Dialect("coco", ImageRow)


def coco_index(path: Path, outlined: bool, dialect: Dialect = COCO) -> Arrays:
    """The arrays of a file, cached; ``outlined``: those of outlines too.

    Raises:
        DataError: The file cannot be read, or is not COCO's.
    """

    def make(source: Path, writer: Writer) -> None:
        write_index(source, writer, outlined, dialect)

    return indexed(path, f"{dialect.name} {'outlines' if outlined else 'boxes'} {VERSION}", make)


def findings(arrays: Arrays, of: str) -> Iterator[Finding]:
    """What is wrong with ``images``, ``annotations`` or ``outlines``, as it was found when the arrays were made."""
    for kind, action, told in arrays.meta["findings"][of]:
        texts = dict(told)
        yield Finding(kind, np.array([*texts], np.int64), texts.__getitem__, action)


def write_index(source: Path, writer: Writer, outlined: bool, dialect: Dialect = COCO) -> None:
    """Read a file and write its arrays, outlines as they come, so that there are never many of them in memory."""
    images, categories, chunks = read_rows(source, outlined, dialect.image)
    table = Table(images, categories)
    outlines = OutlineWriter(writer) if outlined else None
    for rows in chunks:
        where = table.add(rows)
        if outlines is not None:
            outlines.add(rows, table.image_sizes[where], where >= 0)
    table.end()
    _write_images(writer, images)
    dialect.write(writer, images)
    _write_annotations(writer, table)
    writer.meta["categories"] = [(category.id, category.name) for category in categories]
    writer.meta["findings"] = {
        "images": _told(image_findings(images)),
        "annotations": _told(annotation_findings(table)),
        "outlines": [] if outlines is None else _told([outlines.finding()]),
    }


def _write_images(writer: Writer, images: Sequence[ImageRow]) -> None:
    names = [image.file_name.encode() for image in images]
    writer.add("image_ids", np.array([image.id for image in images], np.int64))
    writer.add("image_sizes", np.array([(image.width, image.height) for image in images], np.int64).reshape(-1, 2))
    writer.add("names", np.frombuffer(b"".join(names), np.uint8))
    writer.add("name_ends", np.cumsum([0, *map(len, names)]))


def _write_annotations(writer: Writer, table: Table) -> None:
    outside = table.boxes[:, 2:] - table.clipped[:, 2:]
    cut = (outside > ROUNDING).any(1, keepdims=True)
    order = np.argsort(table.image, kind="stable")
    counts = np.bincount(table.image + 1, minlength=len(table.image_sizes) + 1)  # the first: of no image
    writer.add("ids", table.ids)
    writer.add("images", table.image.astype(np.int32))
    writer.add("image_refs", table.image_refs)
    writer.add("categories", table.label.astype(np.int32))
    writer.add("boxes", np.where(cut, table.clipped, table.boxes))
    writer.add("areas", np.where(np.isnan(table.areas), table.boxes[:, 2:].prod(1), table.areas))
    writer.add("crowd", table.crowd)
    writer.add("order", order)
    writer.add("offsets", np.cumsum(counts))


def _told(found: Iterable[Finding]) -> list[Any]:
    """Findings as JSON has them; of what was found nowhere, nothing."""
    return [
        (each.kind, each.action, [(row, each.what(row)) for row in each.rows.tolist()])
        for each in found
        if len(each.rows)
    ]
