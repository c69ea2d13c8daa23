"""The necks by their names in MMDetection."""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part, Rule

CARAFE = {"type": "carafe", "up_kernel": 5, "up_group": 1, "encoder_kernel": 3, "encoder_dilation": 1}
"""How FPN_CARAFE enlarges maps where nothing is said."""

KEYS = {"out_channels": "out_channels", "num_outs": "num_outs", "start_level": "start_level", "end_level": "end_level"}


def fpn(neck: Foreign) -> Part:
    """FPN."""
    neck.only(upsample_cfg={"mode": "nearest"})
    return neck.into("FPN", *_names(neck), **_common(neck))


def pafpn(neck: Foreign) -> Part:
    """PAFPN."""
    return neck.into("PAFPN", *_names(neck), **_common(neck))


def fpn_carafe(neck: Foreign) -> Part:
    """FPN_CARAFE. Of the ways that it enlarges maps we have that of the paper."""
    neck.wired("in_channels")
    neck.only(order=["conv", "norm", "act"], init_cfg=None)
    if neck.get("upsample_cfg") is None:
        neck.values["upsample_cfg"] = CARAFE
    up = neck.table("upsample_cfg")
    if up.get("type") != "carafe":
        up.lose("type", "only 'carafe' has a counterpart")
    up.only(encoder_dilation=1)
    same = {"encoder_kernel": "encoder_kernel", "compressed_channels": "compressed_channels"}
    kernels = up.keep(up_kernel="up_kernel", up_groups="up_group", **same)
    parts = {"norm": neck.part("norm_cfg"), "act": neck.part("act_cfg")}
    return neck.into("FPN_CARAFE", *_names(neck), **neck.keep(**KEYS), **kernels, **parts)


def _common(neck: Foreign) -> dict[str, Any]:
    flags = neck.keep(relu_before_extra="relu_before_extra_convs")
    lateral = {"norm_on_lateral": False} if neck.get("no_norm_on_lateral", False) else {}
    parts = {"norm": neck.part("norm_cfg"), "act": neck.part("act_cfg"), "conv": neck.part("conv_cfg")}
    return {**neck.keep(**KEYS), "extra": extra(neck), **flags, **lateral, **parts}


def _names(neck: Foreign) -> tuple[Rule, ...]:
    """Tensors have the same names, but for those of norms, which are called by their kind there."""
    kind = "gn" if neck.table("norm_cfg").get("type") == "GN" else "bn"
    return ((r"\.norm\.", f".{kind}."),)


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


TRANSLATIONS = {"FPN": fpn, "PAFPN": pafpn, "FPN_CARAFE": fpn_carafe}
