"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, Kind, hookimpl


@hookimpl
def detcore_components() -> list[Component | Kind]:
    """The wrapper, and what makes one list of the views' lists."""
    merge = "detcore_tta.merge"
    return [
        Component("detector", "TTA", "detcore_tta.tta:TTA", "A detector that sees images flipped and scaled too"),
        Kind("merger", f"{merge}:Merger", summary="detections of several views to those of an image"),
        Component("merger", "WeightedBoxFusion", f"{merge}:WeightedBoxFusion", "Means of boxes (Solovyev et al. 2021)"),
        Component("merger", "NMSMerger", f"{merge}:NMSMerger", "The best of boxes that overlap, class by class"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's name for it."""
    return {"mmdet": "detcore_tta.mmdet:TRANSLATIONS"}
