"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detcore import Namespace, hookimpl


@hookimpl
def detcore_components() -> Sequence[Namespace]:
    """Every model of timm that gives a pyramid."""
    summary = "timm's models by their names, e.g. timm/mobilenetv3_small_100"
    return [Namespace("backbone", "detcore_timm.models", "detcore.interfaces:Backbone", summary)]


@hookimpl
def detcore_weight_sources() -> Mapping[str, str]:
    """``timm://mobilenetv2_100`` and ``timm://mobilenetv2_100.ra_in1k``."""
    return {"timm": "detcore_timm.weights:download"}
