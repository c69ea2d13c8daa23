"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    return [
        Component("dataset", "CSVDataset", "detcore_formats.table:CSVDataset", "a table with a line for each object"),
        Component("dataset", "LabelmeDataset", "detcore_formats.labelme:LabelmeDataset", "labelme's JSON files"),
        Component("dataset", "OpenImagesDataset", "detcore_formats.open_images:OpenImagesDataset", "Open Images' CSV"),
        Component("dataset", "CrowdHumanDataset", "detcore_formats.crowd_human:CrowdHumanDataset", "CrowdHuman's odgt"),
        Component(
            "evaluator",
            "CrowdHumanEvaluator",
            "detcore_formats.crowd_human_evaluator:CrowdHumanEvaluator",
            "CrowdHuman's AP, miss rate and Jaccard index",
        ),
        Component("dataset", "WIDERFaceDataset", "detcore_formats.wider_face:WIDERFaceDataset", "WIDER FACE's text"),
        Component("dataset", "CityscapesDataset", "detcore_formats.cityscapes:CityscapesDataset", "Cityscapes' JSON"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_formats.mmdet:TRANSLATIONS"}
