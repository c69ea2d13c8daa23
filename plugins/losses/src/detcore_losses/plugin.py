"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl

CLASSES = {
    "FocalLoss": "Sigmoids, easy elements weigh little (Lin et al. 2017)",
    "CrossEntropyLoss": "Softmax with background last, or sigmoids",
}
QUALITIES = {
    "QualityFocalLoss": "Sigmoids of classes and qualities (Li et al. 2020, Generalized Focal Loss)",
    "VarifocalLoss": "Sigmoids of classes, positives weighed by quality (Zhang et al. 2021, VarifocalNet)",
    "DistributionFocalLoss": "A number as a softmax over places (Li et al. 2020, Generalized Focal Loss)",
}
HARMONISED = {
    "GHMC": "Sigmoids, weighed by the density of gradients (Li et al. 2019)",
    "GHMR": "Smooth differences, weighed by the density of gradients (Li et al. 2019)",
}
BOXES = {
    "IoULoss": "Log, linear or squared IoU (Yu et al. 2016, UnitBox)",
    "GIoULoss": "Generalised IoU (Rezatofighi et al. 2019)",
    "DIoULoss": "Distance IoU (Zheng et al. 2020)",
    "CIoULoss": "Complete IoU (Zheng et al. 2021)",
    "L1Loss": "Absolute difference",
    "SmoothL1Loss": "Absolute difference, a parabola near zero (Girshick 2015)",
    "BalancedL1Loss": "Smooth difference, inliers pull more (Pang et al. 2019, Libra R-CNN)",
    "MSELoss": "Squared difference",
}


@hookimpl
def detcore_components() -> list[Component]:
    """The losses, by name."""
    return [
        *(Component("loss", name, f"detcore_losses.classification:{name}", text) for name, text in CLASSES.items()),
        *(Component("loss", name, f"detcore_losses.quality:{name}", text) for name, text in QUALITIES.items()),
        *(Component("loss", name, f"detcore_losses.ghm:{name}", text) for name, text in HARMONISED.items()),
        Component("loss", "DiceLoss", "detcore_losses.dice:DiceLoss", "Overlap of sets (Milletari et al. 2016)"),
        *(Component("loss", name, f"detcore_losses.boxes:{name}", text) for name, text in BOXES.items()),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_losses.mmdet:TRANSLATIONS"}
