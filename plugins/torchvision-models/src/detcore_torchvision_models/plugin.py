"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detcore import Namespace, hookimpl


@hookimpl
def detcore_components() -> Sequence[Namespace]:
    """torchvision's classification models without their heads, and its detectors."""
    package = "detcore_torchvision_models"
    backbones = "torchvision's models by their names, e.g. torchvision/regnet_y_400mf"
    detectors = "torchvision's detectors by their names, e.g. torchvision/fcos_resnet50_fpn"
    return [
        Namespace("backbone", f"{package}.backbones", "detcore.interfaces:Backbone", backbones),
        Namespace("detector", f"{package}.detectors", "detcore.interfaces:Detector", detectors),
    ]


@hookimpl
def detcore_weight_sources() -> Mapping[str, str]:
    """``torchvision://resnet50`` and ``torchvision://resnet50/IMAGENET1K_V1``."""
    return {"torchvision": "detcore_torchvision_models.weights:download"}
