"""What this plugin registers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The backbone."""
    return [
        Component("backbone", "Hourglass", "detcore_hourglass.hourglass:Hourglass", "stacked hourglasses, of stride 4")
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_hourglass.mmdet:TRANSLATIONS"}
