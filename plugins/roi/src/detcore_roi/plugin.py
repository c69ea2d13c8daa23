"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The parts of a second stage, by name."""
    return [
        Component("roi_extractor", "SingleLevelRoIExtractor", "detcore_roi.extractor:SingleLevelRoIExtractor"),
        Component("box_head", "Shared2FCBoxHead", "detcore_roi.box_head:Shared2FCBoxHead"),
        Component("roi_decoder", "RoINMSDecoder", "detcore_roi.decoder:RoINMSDecoder"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_roi.mmdet:TRANSLATIONS"}
