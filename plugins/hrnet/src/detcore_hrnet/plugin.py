"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The backbone and its neck."""
    return [
        Component("backbone", "HRNet", "detcore_hrnet.hrnet:HRNet", "High-resolution network (Wang et al. 2020)"),
        Component("neck", "HRFPN", "detcore_hrnet.hrfpn:HRFPN", "All maps joined, then pooled (Wang et al. 2020)"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_hrnet.mmdet:TRANSLATIONS"}
