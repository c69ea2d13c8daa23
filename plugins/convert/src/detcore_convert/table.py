"""A table with a line for each object."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from detcore.files import write_text

from detcore_convert.sheets import Source, count_areas, count_classes, count_outlines, number, without_crowds

COLUMNS = ("image", "xmin", "ymin", "xmax", "ymax", "label")


def write_csv(source: Source, output: Path) -> None:
    """Images by name, boxes in pixels; an image without object has a line of its name alone."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    seen: set[str] = set()
    for sheet in source.sheets():
        things = without_crowds(sheet, source.losses)
        rows = [[sheet.name, *map(number, thing.box), thing.name] for thing in things]
        table.writerows(rows or [[sheet.name, "", "", "", "", ""]])
        seen.update(thing.name for thing in things)
        source.losses["sizes of images (readers ask the files)"] += 1
        count_areas(things, source.losses)
        count_outlines(things, source.losses)
    count_classes(source.dataset.classes, seen, source.losses)
    write_text(output, text.getvalue())
