"""The necks by their names in MMDetection."""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part

KEYS = {"out_channels": "out_channels", "num_outs": "num_outs", "start_level": "start_level", "end_level": "end_level"}


def fpn(neck: Foreign) -> Part:
    """FPN."""
    neck.only(upsample_cfg={"mode": "nearest"})
    return neck.into("FPN", **_common(neck))


def pafpn(neck: Foreign) -> Part:
    """PAFPN."""
    return neck.into("PAFPN", **_common(neck))


def _common(neck: Foreign) -> dict[str, Any]:
    flags = neck.keep(relu_before_extra="relu_before_extra_convs")
    lateral = {"norm_on_lateral": False} if neck.get("no_norm_on_lateral", False) else {}
    parts = {"norm": neck.part("norm_cfg"), "act": neck.part("act_cfg"), "conv": neck.part("conv_cfg")}
    return {**neck.keep(**KEYS), "extra": extra(neck), **flags, **lateral, **parts}


def extra(neck: Foreign) -> str | None:
    """How levels beyond the deepest map are made: by pooling, where nothing is said."""
    channels, convs = neck.get("in_channels", ()), neck.get("add_extra_convs", False)
    end = neck.get("end_level", -1)
    last = len(channels) - 1 if end in (-1, len(channels) - 1) else end
    if neck.get("num_outs", 0) <= last + 1 - neck.get("start_level", 0):
        return None
    if not convs:
        return "max_pool"
    return "on_input" if convs is True else str(convs)


TRANSLATIONS = {"FPN": fpn, "PAFPN": pafpn}
