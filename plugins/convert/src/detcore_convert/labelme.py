"""labelme's files, a JSON for each image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detcore.files import write_text

from detcore_convert.sheets import (
    Sheet,
    Source,
    Thing,
    count_areas,
    count_boxes,
    count_classes,
    number,
    unique,
    without_crowds,
)

VERSION = "5.0.0"
"""Of labelme, whose layout it is; later ones read it."""


def write_labelme(source: Source, output: Path) -> None:
    """Rectangles, or polygons where outlines were read; ``imagePath`` leads to the image where it is."""
    seen: set[str] = set()
    for sheet in unique(source.sheets()):
        things = without_crowds(sheet, source.losses)
        path = output / f"{sheet.stem}.json"
        image = os.path.relpath((source.folder / sheet.name).resolve(), path.parent.resolve())
        write_text(path, json.dumps(_said(sheet, things, image), ensure_ascii=False, indent=1) + "\n")
        seen.update(thing.name for thing in things)
        count_areas(things, source.losses)
        count_boxes(things, source.losses)
    count_classes(source.dataset.classes, seen, source.losses)


def _said(sheet: Sheet, things: Sequence[Thing], image: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "flags": {},
        "shapes": [shape for place, thing in enumerate(things, 1) for shape in _shapes(thing, place)],
        "imagePath": image.replace(os.sep, "/"),
        "imageData": None,
        "imageHeight": sheet.height,
        "imageWidth": sheet.width,
    }


def _shapes(thing: Thing, place: int) -> Iterator[dict[str, Any]]:
    """A rectangle; or a polygon for each outline, in a group where there are several."""
    left, top, right, bottom = thing.box
    outlines = [each.tolist() for each in thing.outlines] or [[[left, top], [right, bottom]]]
    for outline in outlines:
        yield {
            "label": thing.name,
            "points": [[number(x), number(y)] for x, y in outline],
            "group_id": place if len(outlines) > 1 else None,
            "shape_type": "polygon" if thing.outlines else "rectangle",
            "flags": {},
        }
