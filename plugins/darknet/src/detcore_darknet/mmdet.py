"""Darknet by its name in MMDetection, and what else there is made of its layers."""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part, Rule

NORM = {"type": "BN"}
ACT = {"type": "LeakyReLU", "negative_slope": 0.1}
"""What layers are made of where nothing is said, there and here."""
STAGES = 5
BLOCKS = 8
"""The most residual blocks that a stage has."""


def darknet(backbone: Foreign) -> Part:
    """Darknet. Stages after the last one whose map is asked for are built there, and have weights.

    ``frozen_stages`` counts the first convolution there: 1 is that alone.
    """
    backbone.only(depth=53, pretrained=None)
    keys = backbone.keep(out_indices="out_indices", norm_eval="norm_eval")
    frozen = backbone.get("frozen_stages", -1) - 1
    last = max(keys.get("out_indices", (STAGES,)))
    return backbone.into(
        "Darknet",
        (r"^stem\.", "conv1."),
        (r"^stage(\d)\.0\.", r"conv_res_block\1.conv."),
        *((rf"^stage(\d)\.{block + 1}\.", rf"conv_res_block\1.res{block}.") for block in range(BLOCKS)),
        norm_names(backbone),
        absent=[rf"conv_res_block{stage}\..*" for stage in range(last + 1, STAGES + 1)],
        **keys,
        frozen_stages=frozen if frozen >= 0 else None,
        **layers(backbone),
    )


def layers(table: Foreign) -> dict[str, Any]:
    """``norm`` and ``act``, as far as they are not what they are without being said."""
    table.only(conv_cfg=None)
    found: dict[str, Any] = {}
    for ours, theirs, usual in (("norm", "norm_cfg", NORM), ("act", "act_cfg", ACT)):
        if table.get(theirs, usual) is None:
            table.lose(theirs, "there is always one here")
        part = table.part(theirs)
        if part is not None and part.plain != usual:
            found[ours] = part
    return found


def norm_names(table: Foreign) -> Rule:
    """How norms are called there."""
    return r"\.norm\.", ".gn." if table.table("norm_cfg").get("type") == "GN" else ".bn."


TRANSLATIONS = {"Darknet": darknet}
