"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    return [
        Component("dataset", "LVISDataset", "detcore_lvis.dataset:LVISDataset", "LVIS JSON and COCO's images"),
        Component(
            "evaluator", "LVISEvaluator", "detcore_lvis.evaluator:LVISEvaluator", "LVIS's AP of what was looked for"
        ),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_lvis.mmdet:TRANSLATIONS"}
