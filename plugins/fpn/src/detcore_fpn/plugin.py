"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The necks."""
    return [
        Component("neck", "FPN", "detcore_fpn.fpn:FPN", "Feature pyramid network (Lin et al. 2017)"),
        Component("neck", "PAFPN", "detcore_fpn.pafpn:PAFPN", "FPN and a way back up (Liu et al. 2018)"),
        Component(
            "neck", "FPN_CARAFE", "detcore_fpn.carafe:FPNCARAFE", "FPN, upsampling by learned kernels (Wang 2019)"
        ),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_fpn.mmdet:TRANSLATIONS"}
