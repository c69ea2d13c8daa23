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
