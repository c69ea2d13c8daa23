"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """What ATSS adds to RetinaNet and FCOS; anchors, losses and decoder come from other plugins."""
    module = "detcore_atss.atss"
    return [
        Component("assigner", "ATSSAssigner", f"{module}:ATSSAssigner", "an IoU threshold for each object"),
        Component("head_network", "ATSSTowers", f"{module}:ATSSTowers", "two towers: class, deltas, centerness"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_atss.mmdet:TRANSLATIONS"}
