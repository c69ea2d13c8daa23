"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The backbone."""
    target = "detcore_swin.swin:SwinTransformer"
    return [Component("backbone", "SwinTransformer", target, "Shifted windows of attention (Liu et al. 2021)")]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_swin.mmdet:TRANSLATIONS"}
