"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    return [
        Component("dataset", "VOCDataset", "detcore_voc.dataset:VOCDataset", "Pascal VOC XML and a folder of images"),
        Component("evaluator", "VOCEvaluator", "detcore_voc.evaluator:VOCEvaluator", "VOC's mean average precision"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_voc.mmdet:TRANSLATIONS"}
