"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl

TOWERS = "Two towers of 3x3 convolutions (Lin et al. 2017, RetinaNet)"


@hookimpl
def detcore_components() -> list[Component]:
    """The network of RetinaNet."""
    return [Component("head_network", "RetinaTowers", "detcore_retinanet.retinanet:RetinaTowers", TOWERS)]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_retinanet.mmdet:TRANSLATIONS"}
