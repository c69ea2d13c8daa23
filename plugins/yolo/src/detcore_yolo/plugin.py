"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    summary = "YOLO text: a data.yaml, and boxes or outlines in a text for each image"
    return [Component("dataset", "YOLODataset", "detcore_yolo.dataset:YOLODataset", summary)]
