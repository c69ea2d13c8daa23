"""A data set in one format is written in another, and what is lost is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detcore.assemble import Strings
from detcore.errors import DataError
from detcore.report import summarize
from detcore_records.samples import ImageFiles

from detcore_convert.coco import write_coco
from detcore_convert.folders import check_output
from detcore_convert.labelme import write_labelme
from detcore_convert.reading import open_dataset, reads_no_outlines
from detcore_convert.sheets import Source, source_of
from detcore_convert.table import write_csv
from detcore_convert.unread import unread
from detcore_convert.voc import write_voc
from detcore_convert.yolo import write_yolo

FILES = {"coco": write_coco, "csv": write_csv}
"""Formats that are a file."""
FOLDERS = {"voc": write_voc, "yolo": write_yolo}
"""Formats that are a folder with lists of images by split, and with the images."""


def run(
    source: str,
    target: str,
    *,
    output: Path,
    split: str = "train",
    sets: Strings = (),
    link: bool = True,
    force: bool = False,
) -> str:
    """Write the annotations of a data set; returns lines that say where, and what is lost.

    Args:
        source: A format, the type of a data set, or a config.
        target: ``coco``, ``csv``, ``labelme``, ``voc`` or ``yolo``.
        output: The file or folder.
        split: Of a config, which to read; what it is called where it is written.
        sets: Parameters of the data set; of a config, as in :func:`detcore.run.train`.
        link: Whether ``voc`` and ``yolo`` get a link to the folder of images.
        force: Whether files that are there are replaced.

    Raises:
        UserError: Of the parameters, config or data; the output is there; it cannot be written.
    """
    check_output(output, target in FILES, force)
    dataset = open_dataset(source, split, sets)
    _check_source(dataset, output)
    opened = source_of(dataset)
    if target in FILES:
        FILES[target](opened, output)
    elif target in FOLDERS:
        FOLDERS[target](opened, output, split, link)
    else:
        write_labelme(opened, output)
    return "\n".join([_told(opened, output), *_lost(opened, target)])


def _check_source(dataset: ImageFiles, output: Path) -> None:
    """What is converted is not written over."""
    own = [getattr(dataset, name, None) for name in ("file", "source", "sheets")]
    read = [each for each in own if each is not None and each.exists()]
    written = [each for each in (output, output / "Annotations", output / "data.yaml") if each.exists()]
    if any(one.samefile(other) for one in read for other in written):
        raise DataError(str(output), "is what is converted", "Name another --output.")


def _told(source: Source, output: Path) -> str:
    images, classes = len(source.dataset), len(source.dataset.classes)
    objects = sum(len(source.dataset.rows(index)) for index in range(images))
    return f"{images} images, {objects} objects, {classes} classes; in {output}"


def _lost(source: Source, target: str) -> Iterator[str]:
    """What is lost, a line each; most first."""
    dataset, losses = source.dataset, source.losses
    losses.update(unread(dataset, target))
    counted = [f"{what}: {count}" for what, count in losses.most_common() if count]
    flaws = [f"{what}: {count}" for what, count in summarize(f for f in dataset.report if f.action != "kept").items()]
    outlines = ["outlines, which were not read: --set segmentation=polygons"] if reads_no_outlines(dataset) else []
    yield from (f"lost: {each}" for each in [*counted, *flaws, *outlines])
    if not (counted or flaws or outlines):
        yield "lost: nothing"
