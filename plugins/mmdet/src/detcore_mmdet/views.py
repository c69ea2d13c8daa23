"""``tta_model`` and ``tta_pipeline``: which views of an image are seen in tests, and what makes one list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detcore.foreign import Foreign

PLAIN = ("LoadImageFromFile", "LoadAnnotations", "PackDetInputs", "Pad")
"""Transforms that are the same for each view."""


def views(root: Foreign, table: Mapping[str, Any]) -> dict[str, Any] | None:
    """The detector that wraps the config's; None where there is none, or it has no counterpart.

    Args:
        root: The top level of the config.
        table: Ours.
    """
    pipeline = [step for step in root.get("tta_pipeline") or [] if isinstance(step, Mapping)]
    if root.get("tta_model") is None:
        return None
    lists: list[Any] = next((step.get("transforms", []) for step in pipeline if step.get("type") == "TestTimeAug"), [])
    steps = [step for each in lists for step in (each if isinstance(each, list) else [each])]
    unknown = {str(step.get("type")) for step in steps} - {"Resize", "RandomFlip", *PLAIN}
    if not lists or unknown:
        made = ", ".join(sorted(unknown))
        root.lose("tta_model", f"views made by {made} have no counterpart" if unknown else "no pipeline makes views")
        return None
    model = root.table("tta_model")
    given = {"flips": _flips(steps), "scales": _scales(steps, table), "preprocess": table.get("preprocess", {})}
    part = model.translated(**given)
    model.read |= given.keys()
    if given["scales"] is not None:
        model.note("type", "views are scaled from the size of validation, not from the file")
    return None if part is None else part.plain


def _flips(steps: list[Any]) -> list[str] | None:
    """Ways in which images are mirrored; none is one."""
    found = []
    for step in steps:
        if step.get("type") == "RandomFlip":
            way = step.get("direction", "horizontal") if step.get("prob", 1.0) else "none"
            found.append("both" if way == "diagonal" else way)
    return list(dict.fromkeys(sorted(found, key=lambda way: way != "none"))) or ["none"]


def _scales(steps: list[Any], table: Mapping[str, Any]) -> list[float] | None:
    """Factors of the size that validation has; None where there is only that."""
    resized = [step.get("scale") for step in steps if step.get("type") == "Resize"]
    sizes = [min(scale) for scale in resized if isinstance(scale, list)]
    transforms = table.get("val", {}).get("transforms", [])
    own = [min(each["sizes"][0]) for each in transforms if each.get("type") == "RandomChoiceResize"]
    if not sizes:
        return None
    base = own[-1] if own else sizes[0]
    scales = [round(size / base, 4) for size in sizes]
    return None if scales == [1.0] else scales
