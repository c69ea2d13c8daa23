"""YOLO's text: data.yaml, a list of images, labels, and images, which is a link."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
from detcore.errors import DataError
from detcore.files import write_text

from detcore_convert.folders import link
from detcore_convert.sheets import (
    Floats,
    Sheet,
    Source,
    Thing,
    common,
    count_areas,
    count_boxes,
    unique,
    without_crowds,
)


def write_yolo(source: Source, output: Path, split: str, linked: bool) -> None:
    """A text for each image, with boxes, or outlines where they were read, in fractions of six digits."""
    source = _below_images(source)
    if linked:
        link(output / "images", source.folder)
    names: list[str] = []
    for sheet in unique(source.sheets()):
        things = without_crowds(sheet, source.losses)
        lines = [_line(thing, sheet, source.losses) for thing in things]
        write_text(output / "labels" / f"{sheet.stem}.txt", "".join(f"{line}\n" for line in lines))
        names.append(sheet.name)
        source.losses["sizes of images (readers ask the files)"] += 1
        count_areas(things, source.losses)
        count_boxes(things, source.losses)
    write_text(output / f"{split}.txt", "".join(f"./images/{name}\n" for name in names))
    _describe(output, split, source.dataset.classes)


def _describe(output: Path, split: str, classes: Sequence[str]) -> None:
    """Write ``data.yaml``; what was written there of the other split, with the same classes, stays in it."""
    file = output / "data.yaml"
    names = "".join(f"  {label}: {json.dumps(name, ensure_ascii=False)}\n" for label, name in enumerate(classes))
    old, _, old_names = (file.read_text("utf-8") if file.is_file() else "").partition("names:\n")
    lines = {f"{split}: {split}.txt", *(line for line in old.splitlines()[1:] if old_names == names)}
    write_text(file, "\n".join(["path: .", *sorted(lines), f"names:\n{names}"]))


def _below_images(source: Source) -> Source:
    """From the folder that all images are in, where the path to one has a part ``images``: the last is replaced."""
    names = [source.name(index) for index in range(len(source.dataset))]
    if not any("images" in name.split("/")[:-1] for name in names):
        return source
    lowest = attrs.evolve(source, folder=common(source.folder, names))
    names = [lowest.name(index) for index in range(len(source.dataset))]
    odd = next((name for name in names if "images" in name.split("/")[:-1]), None)
    if odd is not None:
        found = f"{odd}: a folder below it is called images, which YOLO's readers replace by labels"
        raise DataError(str(lowest.folder), found, "Name another folder of images, or rename that one.")
    return lowest


def _line(thing: Thing, sheet: Sheet, losses: Counter[str]) -> str:
    """The number of a class, and a box or outline."""
    left, top, right, bottom = thing.box
    points: Floats = np.array([[(left + right) / 2, (top + bottom) / 2], [right - left, bottom - top]])
    if thing.outlines:
        losses["outlines of objects that have several, but for the largest"] += len(thing.outlines) - 1
        points = max(thing.outlines, key=_area)
    fractions: Sequence[float] = (points / [sheet.width, sheet.height]).ravel().tolist()
    return " ".join([str(thing.label), *(f"{each:.6f}" for each in fractions)])


def _area(outline: Floats) -> float:
    """Of a polygon (K, 2)."""
    x, y = outline.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)
