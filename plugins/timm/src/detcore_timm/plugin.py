"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Namespace, hookimpl


@hookimpl
def detcore_components() -> Sequence[Namespace]:
    """Every model of timm that gives a pyramid."""
    summary = "timm's models by their names, e.g. timm/mobilenetv3_small_100"
    return [Namespace("backbone", "detcore_timm.models", "detcore.interfaces:Backbone", summary)]
