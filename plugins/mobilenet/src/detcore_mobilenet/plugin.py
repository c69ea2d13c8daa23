"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The backbones."""
    v2, v3 = "detcore_mobilenet.v2:MobileNetV2", "detcore_mobilenet.v3:MobileNetV3"
    return [
        Component("backbone", "MobileNetV2", v2, "Inverted residuals (Sandler et al. 2018)"),
        Component("backbone", "MobileNetV3", v3, "Small or large, by search (Howard et al. 2019)"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_mobilenet.mmdet:TRANSLATIONS"}
