"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    return [
        Component("dataset", "CocoDataset", "detcore_coco.dataset:CocoDataset", "COCO JSON and a folder of images"),
        Component("evaluator", "CocoEvaluator", "detcore_coco.evaluator:CocoEvaluator", "COCO's AP and AR"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_coco.mmdet:TRANSLATIONS"}
