"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, Kind, hookimpl


@hookimpl
def detcore_components() -> list[Component | Kind]:
    """The parts of a second stage, by name."""
    return [
        Component("roi_extractor", "SingleLevelRoIExtractor", "detcore_roi.extractor:SingleLevelRoIExtractor"),
        Component("roi_extractor", "GenericRoIExtractor", "detcore_roi.generic:GenericRoIExtractor"),
        Component("dense_head", "GivenProposals", "detcore_roi.given:GivenProposals", "Regions that the data has"),
        Component("box_head", "Shared2FCBoxHead", "detcore_roi.box_head:Shared2FCBoxHead"),
        Component("box_head", "ConvFCBoxHead", "detcore_roi.box_head:ConvFCBoxHead"),
        Component("roi_branch", "MaskBranch", "detcore_roi.mask:MaskBranch", "A mask for each detection"),
        Kind("mask_head", "detcore_roi.mask:MaskHead", summary="the mask of a region, for each class"),
        Component("mask_head", "FCNMaskHead", "detcore_roi.mask:FCNMaskHead"),
        Component("roi_decoder", "RoINMSDecoder", "detcore_roi.decoder:RoINMSDecoder"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_roi.mmdet:TRANSLATIONS"}
