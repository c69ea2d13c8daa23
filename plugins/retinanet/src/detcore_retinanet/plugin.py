"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The network of RetinaNet."""
    return [Component("head_network", "RetinaTowers", "detcore_retinanet.retinanet:RetinaTowers")]
