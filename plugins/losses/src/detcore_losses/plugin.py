"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl

CLASSES = {
    "FocalLoss": "Sigmoids, easy elements weigh little (Lin et al. 2017)",
    "CrossEntropyLoss": "Softmax with background last, or sigmoids",
}
BOXES = {
    "IoULoss": "Log, linear or squared IoU (Yu et al. 2016, UnitBox)",
    "GIoULoss": "Generalised IoU (Rezatofighi et al. 2019)",
    "DIoULoss": "Distance IoU (Zheng et al. 2020)",
    "CIoULoss": "Complete IoU (Zheng et al. 2021)",
    "L1Loss": "Absolute difference",
    "SmoothL1Loss": "Absolute difference, a parabola near zero (Girshick 2015)",
    "MSELoss": "Squared difference",
}


@hookimpl
def detcore_components() -> list[Component]:
    """The losses, by name."""
    return [
        *(Component("loss", name, f"detcore_losses.classification:{name}", text) for name, text in CLASSES.items()),
        *(Component("loss", name, f"detcore_losses.boxes:{name}", text) for name, text in BOXES.items()),
    ]
