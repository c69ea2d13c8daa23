"""ShuffleNetV2 by its name in MMClassification, whose backbones MMDetection takes (``mmcls.ShuffleNetV2``)."""

from __future__ import annotations

from detcore.foreign import Foreign, Part, Rule

LAST = 3
"""The map behind the last convolution, by its number there and here; the others count from the first stage there."""

UNITS = {1: {0: "0.conv", 1: "0.bn", 2: "1.conv", 3: "1.bn"},
         2: {0: "0.conv", 1: "0.bn", 3: "1.conv", 4: "1.bn", 5: "2.conv", 6: "2.bn"}}  # fmt: skip
"""Of each branch of a unit: the number of a layer here, and its name there."""

RULES: tuple[Rule, ...] = (
    *(
        (rf"\.branch{branch}\.{ours}\.", f".branch{branch}.{theirs}.")
        for branch, layers in UNITS.items()
        for ours, theirs in layers.items()
    ),
    *((rf"^stage{stage + 2}\.", f"layers.{stage}.") for stage in range(LAST)),
    (r"^conv5\.0\.", f"layers.{LAST}.conv."),
    (r"^conv5\.1\.", f"layers.{LAST}.bn."),
    (r"^conv1\.0\.", "conv1.conv."),
    (r"^conv1\.1\.", "conv1.bn."),
)


def shufflenet_v2(backbone: Foreign) -> Part:
    """ShuffleNetV2; the third map there is that before the last convolution, which is read behind it here."""
    backbone.only(conv_cfg=None, norm_cfg={"type": "BN"}, act_cfg={"type": "ReLU"}, frozen_stages=-1, pretrained=None)
    backbone.get("with_cp")
    outs = list(backbone.get("out_indices", [LAST]))
    if LAST - 1 in outs:
        backbone.note("out_indices", "the deepest map is read behind the last convolution, which widens it")
    if backbone.get("init_cfg"):
        backbone.note("init_cfg", "torchvision's weights of ImageNet are taken")
        backbone.values["init_cfg"] = None
    width = float(backbone.get("widen_factor", 1.0))
    return backbone.into(
        "ShuffleNetV2",
        *RULES,
        width=None if width == 1 else width,
        out_indices=sorted({min(index + 1, LAST) for index in outs}),
        weights=f"torchvision://shufflenet_v2_x{str(width).replace('.', '_')}",
        **backbone.keep(norm_eval="norm_eval"),
    )


TRANSLATIONS = dict.fromkeys(("ShuffleNetV2", "mmcls.ShuffleNetV2", "mmpretrain.ShuffleNetV2"), shufflenet_v2)
