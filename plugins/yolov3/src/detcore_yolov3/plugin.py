"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The parts of YOLOv3 that are its own; the backbone and the losses come from other plugins."""
    module = "detcore_yolov3.yolov3"
    return [
        Component("neck", "YOLOV3Neck", f"{module}:YOLOV3Neck", "down the pyramid, maps side by side"),
        Component("head_network", "YOLOV3Towers", f"{module}:YOLOV3Towers", "box, objectness, classes per anchor"),
        Component("geometry", "YOLOAnchors", f"{module}:YOLOAnchors", "sizes per level; centres stay in their cell"),
        Component("assigner", "GridAssigner", f"{module}:GridAssigner", "the anchors of the cell of each centre"),
        Component("dense_loss", "YOLOV3Loss", f"{module}:YOLOV3Loss", "classes, objectness, centre, size"),
        Component("decoder", "YOLOV3Decoder", f"{module}:YOLOV3Decoder", "objectness, then classes, NMS per class"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_yolov3.mmdet:TRANSLATIONS"}
