"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The parts of YOLOX that are its own; the backbone and the losses come from other plugins."""
    module = "detcore_yolox.yolox"
    return [
        Component("neck", "YOLOXPAFPN", f"{module}:YOLOXPAFPN", "down and up again by cross stage partial layers"),
        Component("head_network", "YOLOXTowers", f"{module}:YOLOXTowers", "two towers per level: class, box, object"),
        Component("geometry", "PointsWH", f"{module}:PointsWH", "a corner per cell; centre, width and height"),
        Component("assigner", "SimOTAAssigner", f"{module}:SimOTAAssigner", "the cheapest priors near each object"),
        Component("dense_loss", "YOLOXLoss", f"{module}:YOLOXLoss", "class by IoU, box, objectness, late L1"),
        Component("decoder", "YOLOXDecoder", f"{module}:YOLOXDecoder", "class times objectness, best class, NMS"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_yolox.mmdet:TRANSLATIONS"}
