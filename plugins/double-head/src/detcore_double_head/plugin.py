"""What the plugin offers."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The box head."""
    text = "Class by fully connected layers, box by convolutions (Wu et al. 2020)"
    return [Component("box_head", "DoubleHead", "detcore_double_head.double_head:DoubleHead", text)]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for it."""
    return {"mmdet": "detcore_double_head.mmdet:TRANSLATIONS"}
