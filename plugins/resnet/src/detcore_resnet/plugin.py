"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl

STAGE = "A stage on what another extractor cuts out (Ren et al. 2017)"


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The backbone, a stage of it for regions, and convolutions for both."""
    return [
        Component("backbone", "ResNet", "detcore_resnet.resnet:ResNet", "ResNet-18 to -152 (He et al. 2016)"),
        Component("conv", "DCN", "detcore_resnet.dcn:DCN", "Deformable convolution (Dai et al. 2017)"),
        Component("conv", "DCNv2", "detcore_resnet.dcn:DCNv2", "Modulated deformable convolution (Zhu et al. 2019)"),
        Component("roi_extractor", "ResNetStageExtractor", "detcore_resnet.roi_stage:ResNetStageExtractor", STAGE),
        Component("conv", "ConvWS", "detcore_resnet.conv_ws:ConvWS", "Standardised kernels (Qiao et al. 2019)"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_resnet.mmdet:TRANSLATIONS"}
