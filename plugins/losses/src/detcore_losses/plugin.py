"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The losses, by name."""
    classes = ("FocalLoss", "CrossEntropyLoss")
    boxes = ("IoULoss", "GIoULoss", "DIoULoss", "CIoULoss", "L1Loss", "SmoothL1Loss")
    return [
        *(Component("loss", name, f"detcore_losses.classification:{name}") for name in classes),
        *(Component("loss", name, f"detcore_losses.boxes:{name}") for name in boxes),
    ]
