"""What this plugin adds: how core's own components are called in MMDetection."""

from __future__ import annotations

from detcore import hookimpl


@hookimpl
def detcore_importers() -> dict[str, str]:
    """Norms, activations, torchvision's transforms, schedules and hooks."""
    return {"mmdet": "detcore_mmdet.names:TRANSLATIONS"}
