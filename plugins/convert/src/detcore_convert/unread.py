"""What the files of a data set say of objects and images beside what the data set reads: it cannot be written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from detcore_records.samples import ImageFiles

FLAGS = ("1", "true", "yes")
NOTHING = ("", "0", "false", "no", "unspecified")
"""What VOC's elements have where they say nothing, as ``pose`` does in most files."""
VOC = {"name", "bndbox", "difficult"}
"""What is read of VOC's objects; ``difficult`` is seen to beside."""
SHAPE = {"label", "points", "shape_type"}
"""What is read of labelme's shapes; those of a ``group_id`` are one object, the number itself is lost."""
SHEET = {"version", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth", "lineColor", "fillColor"}
"""What is read of labelme's files, or is of no object: the image itself, and how it was shown."""


def unread(dataset: ImageFiles, target: str) -> Counter[str]:
    """How many objects or images have what, a line each, when they are written as ``target``."""
    found: Counter[str] = Counter()
    sheets = getattr(dataset, "sheets", None)
    if sheets is not None:
        _count_voc([sheets / f"{stem}.xml" for stem in dataset.image_ids], _crowds(dataset), target, found)
    elif getattr(dataset, "UNIT", "") == "shape":
        source: Path = dataset.source  # type: ignore[attr-defined]  # labelme's folder
        _count_labelme((source / f"{stem}.json" for stem in dataset.image_ids), found)
    return found


def _crowds(dataset: ImageFiles) -> int:
    return sum(int(dataset.annotations(index)["iscrowd"].sum()) for index in range(len(dataset)))


def _count_voc(paths: Iterable[Path], crowds: int, target: str, found: Counter[str]) -> None:
    """Elements of objects; those that are difficult are crowds, unless the data set was told to keep them."""
    difficult = 0
    for path in paths:
        for each in ElementTree.parse(path).getroot().iterfind("object"):
            found.update({_element(part) for part in each if part.tag not in VOC and _says(part)})
            difficult += (each.findtext("difficult") or "").strip().lower() in FLAGS
    if not crowds:
        found["difficult flags"] += difficult
    elif target == "coco":
        found["difficult flags, now crowds"] += crowds


def _says(element: ElementTree.Element) -> bool:
    return len(element) > 0 or (element.text or "").strip().lower() not in NOTHING


def _element(element: ElementTree.Element) -> str:
    flag = (element.text or "").strip().lower() in FLAGS and not len(element)
    return f"{element.tag} flags" if flag else f'"{element.tag}" of objects'


def _count_labelme(paths: Iterable[Path], found: Counter[str]) -> None:
    """Keys of shapes and of files."""
    for path in paths:
        sheet = json.loads(path.read_bytes())
        found.update(f'"{key}" of images' for key in _told(sheet, SHEET))
        for shape in sheet["shapes"]:
            found.update(f'"{key}" of shapes' for key in _told(shape, SHAPE))


def _told(table: Mapping[str, Any], read: set[str]) -> Iterator[str]:
    """The keys that say something beside what is read; of flags, those that are set do."""
    for key, value in table.items():
        empty = not any(value.values()) if isinstance(value, Mapping) else value in (None, "", []) or value is False
        if key not in read and not empty:
            yield key
