"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The backbone."""
    target = "detcore_csp_darknet.csp_darknet:CSPDarknet"
    return [Component("backbone", "CSPDarknet", target, "Darknet of cross stage partial layers, as YOLOX has it")]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's name for it."""
    return {"mmdet": "detcore_csp_darknet.mmdet:TRANSLATIONS"}
