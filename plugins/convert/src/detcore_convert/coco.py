"""COCO's instances JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detcore.files import write_text
from detcore.results import category_ids

from detcore_convert.sheets import Source, Thing, number


def write_coco(source: Source, output: Path) -> None:
    """A file of images, annotations and categories; ids are kept where they are numbers, else counted from 1."""
    ids = _category_ids(source)
    images: list[str] = []
    rows: list[str] = []
    for order, sheet in enumerate(source.sheets(), 1):
        numbered = isinstance(sheet.id, int)
        source.losses["identifiers of images that are texts, now numbers"] += not numbered
        id_ = sheet.id if numbered else order
        entry = {"id": id_, "file_name": sheet.name, "width": sheet.width, "height": sheet.height}
        images.append(_dump(entry))
        for thing in sheet.things:
            source.losses["masks of crowds, now their boxes"] += sheet.outlined and not thing.outlines
            said = _said(thing, sheet.outlined)
            rows.append(_dump({"id": len(rows) + 1, "image_id": id_, "category_id": ids[thing.label], **said}))
    categories = [_dump({"id": id_, "name": name}) for id_, name in zip(ids, source.dataset.classes, strict=True)]
    lists = (("images", images), ("annotations", rows), ("categories", categories))
    between = ",\n"
    text = between.join(f'"{name}": [\n{between.join(entries)}\n]' for name, entries in lists)
    write_text(output, f"{{\n{text}\n}}\n")


def _category_ids(source: Source) -> Sequence[int]:
    """By label: those that the format had, as COCO's count from 1; else from 1."""
    own = [int(each) for each in category_ids(source.dataset)]
    return own if own and min(own) > 0 else range(1, len(source.dataset.classes) + 1)


def _said(thing: Thing, outlined: bool) -> dict[str, Any]:
    """What an annotation says; a crowd's mask, which is not read, is its box."""
    left, top, right, bottom = thing.box
    corners = [left, top, right, top, right, bottom, left, bottom]
    outlines = [outline.ravel().tolist() for outline in thing.outlines] or [corners]
    return {
        "bbox": [number(each) for each in (left, top, right - left, bottom - top)],
        "area": number(thing.area),
        "iscrowd": int(thing.crowd),
        **({"segmentation": [[number(each) for each in outline] for outline in outlines]} if outlined else {}),
    }


def _dump(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False)
