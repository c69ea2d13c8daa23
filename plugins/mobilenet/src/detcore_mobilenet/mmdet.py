"""MobileNetV2 by its name in MMDetection."""

from __future__ import annotations

from collections.abc import Iterator

from detcore.foreign import Foreign, Part, Rule

BLOCKS = (1, 2, 3, 4, 3, 3, 1)
"""Of ``layer1`` to ``layer7`` there (table 2 of the paper); ``conv1`` is before them, ``conv2`` after them."""

MAPS = {1: 0, 2: 1, 4: 2, 7: 3}
"""The last map of each stride by its number there (0 is ``layer1``, 7 is ``conv2``) and here."""

FROZEN = {-1: -1, 0: 0, 2: 1, 3: 2, 5: 3}
"""``frozen_stages`` there (0 is ``conv1``, 7 is ``layer7``) and here."""


def mobilenet_v2(backbone: Foreign) -> Part:
    """MobileNetV2. It keeps layers beyond the last map that it returns, which nothing reads."""
    backbone.only(conv_cfg=None, act_cfg={"type": "ReLU6"}, pretrained=None)
    backbone.get("with_cp")  # saves memory there, and changes no number
    outs, frozen = _out_indices(backbone), _frozen_stages(backbone)
    width, norm = backbone.get("widen_factor", 1.0), backbone.part("norm_cfg")
    if 3 in outs and int(1280 * max(1.0, width)) % 8:
        backbone.lose("widen_factor", "all channels are multiples of 8, those of the last convolution included")
    return backbone.into(
        "MobileNetV2",
        *_names("gn" if norm is not None and norm.table["type"] == "GN" else "bn"),
        absent=_unread(max(outs)),
        width=None if width == 1 else float(width),
        out_indices=None if outs == [0, 1, 2, 3] else outs,
        frozen_stages=None if frozen == -1 else frozen,
        norm=None if norm is not None and norm.plain == {"type": "BN"} else norm,
        **backbone.keep(norm_eval="norm_eval"),
    )


def _out_indices(backbone: Foreign) -> list[int]:
    theirs = sorted(backbone.get("out_indices", MAPS))
    if not {*theirs} <= MAPS.keys():
        backbone.lose("out_indices", f"only {[*MAPS]}, the last map of each stride, have a counterpart")
        return [*MAPS.values()]
    return [MAPS[each] for each in theirs]


def _frozen_stages(backbone: Foreign) -> int:
    theirs = backbone.get("frozen_stages", -1)
    if theirs not in FROZEN:
        backbone.lose("frozen_stages", f"only {[*FROZEN]} have a counterpart")
    elif theirs >= 0 and not backbone.get("norm_eval", False):
        backbone.note("frozen_stages", "the statistics of the first convolution's norm do not move, either")
    return FROZEN.get(theirs, -1)


def _names(norm: str) -> Iterator[Rule]:
    """Names of tensors: layers one after the other here, in stages there."""
    block = 0
    for stage, blocks in enumerate(BLOCKS, start=1):
        for number in range(blocks):
            block += 1
            yield rf"^features\.{block}\.conv\.", f"layer{stage}.{number}."
    for old, new in ((2, 3), (1, 2), (0, 1)):  # the first block does not expand
        yield rf"^layer1\.0\.{old}\.", f"layer1.0.{new}."
    yield r"^features\.0\.", "conv1."
    yield rf"^features\.{block + 1}\.", "conv2."
    yield r"^(layer\d\.\d)\.0\.", r"\1.expand_conv."
    yield r"^(layer\d\.\d)\.1\.", r"\1.depthwise_conv."
    yield r"^(layer\d\.\d)\.2\.", r"\1.linear_conv.0."
    yield r"^(layer\d\.\d)\.3\.", r"\1.linear_conv.1."
    yield r"conv(\d?)\.0\.", r"conv\1.conv."
    yield r"conv(\d?)\.1\.", rf"conv\1.{norm}."


def _unread(last: int) -> tuple[str, ...]:
    """Tensors behind the last map."""
    layer = next(theirs for theirs, ours in MAPS.items() if ours == last) + 1
    behind = rf"layer[{layer + 1}-7]\..*"
    return () if last == 3 else (behind, r"conv2\..*")


TRANSLATIONS = {"MobileNetV2": mobilenet_v2}
