"""The backbone and its neck by their names in MMDetection."""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part, Rule

STEM = {"num_modules": 1, "num_branches": 1, "block": "BOTTLENECK", "num_channels": [64]}
"""The first stage of every HRNet here, but for its number of blocks."""

XAVIER = {"type": "Caffe2Xavier", "layer": "Conv2d"}
"""What a neck begins with, there and here."""


def hrnet(backbone: Foreign) -> Part:
    """HRNet. ``extra`` describes each stage there; here stages follow from a width, as in the paper."""
    backbone.only(in_channels=3, conv_cfg=None, zero_init_residual=False, multiscale_output=True, pretrained=None)
    backbone.get("with_cp")  # saves memory there, and changes no number
    norm = backbone.part("norm_cfg")
    return backbone.into(
        "HRNet",
        *_names(norm),
        **_stages(backbone.table("extra")),
        norm=None if norm is not None and norm.plain == {"type": "BN"} else norm,
        **backbone.keep(norm_eval="norm_eval"),
    )


def _names(norm: Any) -> tuple[Rule, ...]:
    """Tensors have the same names, but for those of group norms."""
    return ((r"\bbn(\d)\b", r"gn\1"),) if norm is not None and norm.table["type"] == "GN" else ()


def _stages(extra: Foreign) -> dict[str, Any]:
    """What the four stages have in common; what one has to itself is lost."""
    stages = [extra.table(f"stage{number}") for number in (1, 2, 3, 4)]
    blocks, width = stages[0].get("num_blocks")[0], stages[1].get("num_channels")[0]
    _only(stages[0], STEM | {"num_blocks": [blocks]})
    for number, stage in enumerate(stages[1:], start=2):
        widths = [width * 2**branch for branch in range(number)]
        _only(
            stage, {"num_branches": number, "block": "BASIC", "num_channels": widths, "num_blocks": [blocks] * number}
        )
    return {"width": width, "modules": [stage.get("num_modules") for stage in stages[1:]], "blocks": blocks}


def _only(stage: Foreign, expected: dict[str, Any]) -> None:
    """As :meth:`Foreign.only`, of keys that must be there."""
    for key, value in expected.items():
        if stage.get(key) != value:
            stage.lose(key, f"only {value!r} has a counterpart")


def hrfpn(neck: Foreign) -> Part:
    """HRFPN."""
    neck.wired("in_channels")
    neck.only(init_cfg=XAVIER)
    neck.get("with_cp")
    if neck.get("norm_cfg") is not None:
        neck.note("norm_cfg", "has no effect there, and is left out")
    return neck.into(
        "HRFPN",
        **neck.keep(out_channels="out_channels", num_outs="num_outs", stride="stride"),
        pooling="max" if neck.get("pooling_type") == "MAX" else None,
        conv=neck.part("conv_cfg"),
    )


TRANSLATIONS = {"HRNet": hrnet, "HRFPN": hrfpn}
