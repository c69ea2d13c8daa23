"""MMDetection's ``Albu``. What it names are transforms of albumentations as they were called when it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detcore.foreign import Foreign, Part

GONE = ("always_apply",)
"""A parameter that all transforms had; it is ``p = 1`` today."""


def albu(table: Foreign) -> Part:
    """Albu. Images are RGB here, whatever they are there."""
    steps = [_step(table, each, f"transforms.{number}") for number, each in enumerate(table.get("transforms", []))]
    table.only(skip_img_without_anno=False)
    table.get("keymap")  # which entry of a sample is which target is known here
    table.get("update_pad_shape")
    boxes = table.table("bbox_params")
    for key in ("type", "label_fields", "filter_lost_elements", "check_each_transform"):
        boxes.get(key)
    boxes.only(format="pascal_voc")
    least = boxes.keep(min_area="min_area", min_visibility="min_visibility")
    sizes = [boxes.get(key, 0.0) for key in ("min_width", "min_height")]
    if sizes[0] != sizes[1]:
        boxes.note("min_width", "width and height have one least size here: the larger of both")
    return table.into("Albumentations", transforms=steps, min_size=max(sizes) or None, **least)


def _step(table: Foreign, step: Mapping[str, Any], path: str) -> dict[str, Any]:
    """One transform, and those within it."""
    keys = {key: value for key, value in step.items() if key not in GONE}
    if step.get("always_apply"):
        keys["p"] = 1.0
    if isinstance(keys.get("transforms"), list):
        keys["transforms"] = [
            _step(table, each, f"{path}.transforms.{number}") for number, each in enumerate(keys["transforms"])
        ]
    if keys.get("type") == "JpegCompression":
        low, high = keys.pop("quality_lower", 99), keys.pop("quality_upper", 100)
        keys |= {"type": "ImageCompression", "quality_range": [low, high]}
    return keys


TRANSLATIONS = {"Albu": albu}
