"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The parts of FCOS that are its own; points, decoder and losses come from other plugins."""
    module = "detcore_fcos.fcos"
    return [
        Component("head_network", "FCOSTowers", f"{module}:FCOSTowers", "two towers: class, box, centerness"),
        Component("assigner", "FCOSAssigner", f"{module}:FCOSAssigner", "points inside objects, by range of size"),
        Component("dense_loss", "FCOSLoss", f"{module}:FCOSLoss", "class, box weighted by centerness, centerness"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_fcos.mmdet:TRANSLATIONS"}
