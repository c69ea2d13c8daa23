"""CSPDarknet by its name in MMDetection, and what else there is made of its blocks."""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part, Rule

NORM = {"type": "BN", "eps": 1e-3, "momentum": 0.03}
ACT = {"type": "SiLU"}
"""What layers are made of where nothing is said, there and here."""
STAGES = {"P5": 4, "P6": 5}


def csp_darknet(backbone: Foreign) -> Part:
    """CSPDarknet. Stages after the last one whose map is asked for are built there, and have weights."""
    backbone.only(arch_ovewrite=None)
    names = ("arch", "deepen_factor", "widen_factor", "out_indices", "frozen_stages", "norm_eval")
    keys = backbone.keep(**{name: name for name in names}, spp_kernel_sizes="spp_kernal_sizes")
    last, stages = max(keys.get("out_indices", (4,))), STAGES.get(keys.get("arch", "P5"), 0)
    return backbone.into(
        "CSPDarknet",
        (r"^stem\.", "stem.conv."),
        *layer_names(backbone, r"^stage\d\.0|\.conv2"),
        absent=[rf"stage{stage}\..*" for stage in range(last + 1, stages + 1)],
        **keys,
        **layers(backbone),
    )


def layers(table: Foreign) -> dict[str, Any]:
    """``depthwise``, ``norm`` and ``act``, as far as they are not what they are without being said."""
    table.only(conv_cfg=None)
    found: dict[str, Any] = {"depthwise": True} if table.get("use_depthwise", False) else {}
    for ours, theirs, usual in (("norm", "norm_cfg", NORM), ("act", "act_cfg", ACT)):
        if table.get(theirs, usual) is None:
            table.lose(theirs, "there is always one here")
        part = table.part(theirs)
        if part is not None and part.plain != usual:
            found[ours] = part
    return found


def layer_names(table: Foreign, spatial: str) -> tuple[Rule, ...]:
    """How tensors of layers are called there.

    Args:
        table: Of the component that has the layers.
        spatial: A regular expression of the convolutions larger than 1x1, which may be depthwise.
    """
    norm = "gn" if table.table("norm_cfg").get("type") == "GN" else "bn"
    steps = ("depthwise_conv", "pointwise_conv") if table.get("use_depthwise", False) else ()
    parts = ((rf"({spatial})\.{number}\.", rf"\1.{name}.") for number, name in enumerate(steps))
    return ((r"\.norm\.", f".{norm}."), *parts)


TRANSLATIONS = {"CSPDarknet": csp_darknet}
