"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    return [Component("callback", "TensorBoardLog", "detcore_tensorboard.tensorboard:TensorBoardLog", "TensorBoard")]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for it."""
    return {"mmdet": "detcore_tensorboard.mmdet:TRANSLATIONS"}
