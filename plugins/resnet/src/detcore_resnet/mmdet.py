"""ResNet, ResNeXt and their convolutions by their names in MMDetection."""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part, Rule

SAME = ("depth", "out_indices", "frozen_stages", "norm_eval", "style", "strides", "dilations", "zero_init_residual")


def resnet(backbone: Foreign) -> Part:
    """ResNet; with ``groups`` and ``base_width`` it is ResNeXt. What it does not say is as here."""
    backbone.only(in_channels=3, deep_stem=False, avg_down=False, plugins=None, stem_channels=None, pretrained=None)
    backbone.get("with_cp")  # saves memory there, and changes no number
    stages = backbone.get("num_stages", 4)
    keys = backbone.keep(**{name: name for name in SAME}, width="base_channels")
    if stages != 4:
        keys = {"out_indices": [each for each in range(4) if each < stages], **keys}
        for name in ("strides", "dilations"):
            if name in keys:
                keys[name] = [*keys[name], *[1] * (4 - stages)]
    conv = backbone.part("conv_cfg")
    return backbone.into("ResNet", *_rules(backbone), **keys, norm=_norm(backbone), conv=conv, **_deformable(backbone))


def resnext(backbone: Foreign) -> Part:
    """ResNeXt: there it has a name of its own."""
    part = resnet(backbone)
    groups = backbone.keep(groups="groups", base_width="base_width")
    return Part({**part.table, "groups": 1, "base_width": 4, **groups}, part.home, part.rules)


def res_layer(head: Foreign) -> Part:
    """ResLayer, a stage that regions share; what it reads from is the extractor, for the second stage to say."""
    head.only(dcn=None, init_cfg=None, pretrained=None)
    head.get("with_cp")
    names = ("depth", "stage", "stride", "dilation", "style", "norm_eval")
    return head.into(
        "ResNetStageExtractor", *_rules(head), **head.keep(**{name: name for name in names}), norm=_norm(head)
    )


def _rules(table: Foreign) -> list[Rule]:
    """Norms are called after what they are, there."""
    return [(r"\bbn(\d)\b", r"gn\1")] if table.table("norm_cfg").get("type") == "GN" else []


def _norm(backbone: Foreign) -> Any:
    """None where it is what it is without being said."""
    norm = backbone.part("norm_cfg")
    return None if norm is not None and norm.plain == {"type": "BN"} else norm


def _deformable(backbone: Foreign) -> dict[str, Any]:
    if "dcn" not in backbone:
        backbone.get("stage_with_dcn")
        return {}
    flags = backbone.get("stage_with_dcn", (False, False, False, False))
    backbone.table("dcn").only(fallback_on_stride=False)
    stages = [stage for stage, taken in enumerate(flags) if taken]
    return {"conv3x3": backbone.part("dcn"), **({} if stages == [1, 2, 3] else {"conv3x3_stages": stages})}


def deformable(name: str) -> Any:
    """The translation of a deformable convolution, which is ``name`` here."""

    def conv(table: Foreign) -> Part:
        keys = table.keep(deform_groups="deform_groups")
        return table.into(name, **(keys or table.keep(deform_groups="deformable_groups")))

    return conv


def weight_standardised(table: Foreign) -> Part:
    """ConvWS."""
    table.only(eps=1e-5)
    return table.into("ConvWS")


TRANSLATIONS = {
    "ResNet": resnet,
    "ResNeXt": resnext,
    "ResLayer": res_layer,
    "DCN": deformable("DCN"),
    "DCNv2": deformable("DCNv2"),
    "ConvWS": weight_standardised,
}
