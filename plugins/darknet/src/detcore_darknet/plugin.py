"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The backbone."""
    return [Component("backbone", "Darknet", "detcore_darknet.darknet:Darknet", "Darknet-53, as YOLOv3 has it")]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's name for it."""
    return {"mmdet": "detcore_darknet.mmdet:TRANSLATIONS"}
