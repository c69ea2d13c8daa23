"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The head; the backbone and the losses come from other plugins."""
    target = "detcore_centripetalnet.centripetalnet:CentripetalHead"
    return [Component("dense_head", "CentripetalHead", target, "corners paired by their centres (CentripetalNet)")]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_centripetalnet.mmdet:TRANSLATIONS"}
