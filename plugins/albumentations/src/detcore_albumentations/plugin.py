"""What this plugin adds; imports neither torch nor albumentations."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The transform."""
    target = "detcore_albumentations.transform:Albumentations"
    return [Component("transform", "Albumentations", target, "Any transforms of albumentations, in a list")]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's name for it."""
    return {"mmdet": "detcore_albumentations.mmdet:TRANSLATIONS"}
