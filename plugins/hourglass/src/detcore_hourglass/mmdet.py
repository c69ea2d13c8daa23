"""The backbone by its name in MMDetection."""

from __future__ import annotations

from detcore.foreign import Foreign, Part, Rule

CHANNELS, BLOCKS = [256, 256, 384, 384, 384, 512], [2, 2, 2, 2, 2, 4]
"""Of the scales, where nothing is said."""

NAMES: tuple[Rule, ...] = (
    (r"^stem\.1\b", "stem.1.0"),
    (r"^hourglasses\b", "hourglass_modules"),
    (r"^between\b", "inters"),
    (r"^merge_input\b", "conv1x1s"),
    (r"^merge_output\b", "remap_convs"),
    (r"^outputs\b", "out_convs"),
    (r"\bskip\b", "up1"),
    (r"\bdown\b", "low1"),
    (r"\binner\b", "low2"),
    (r"\bup\b", "low3"),
    (r"\bconv([12])\.conv\b", r"conv\1"),
    (r"\bconv([12])\.norm\b", r"bn\1"),
    (r"\bshortcut\.conv\b", "downsample.0"),
    (r"\bshortcut\.norm\b", "downsample.1"),
    (r"\bnorm\b", "bn"),
)
"""Names of its tensors."""


def hourglass(backbone: Foreign) -> Part:
    """HourglassNet. ``stage_channels`` and ``stage_blocks`` may be longer there than hourglasses are deep."""
    scales = backbone.get("downsample_times", 5) + 1
    channels = backbone.get("stage_channels", CHANNELS)[:scales]
    stem = channels[0] // 2
    if backbone.get("feat_channel", 256) != channels[0]:
        backbone.lose(
            "feat_channel", f"only that of the first scale, {channels[0]}, has a counterpart; unsaid, it is 256"
        )
    norm = backbone.part("norm_cfg")
    if norm is not None and norm.plain != {"type": "BN"}:
        backbone.lose("norm_cfg", "only BN has a counterpart: norms within the hourglasses are BN there in any case")
    alone = backbone.get("num_stacks", 2) == 1  # it has a block between stacks even so, which nothing reads
    return backbone.into(
        "Hourglass",
        *NAMES,
        absent=(r"inters\..*",) if alone else (),
        **backbone.keep(downsample_times="downsample_times", num_stacks="num_stacks"),
        stage_channels=channels,
        stage_blocks=backbone.get("stage_blocks", BLOCKS)[:scales],
        stem_channels=None if stem == 128 else stem,
    )


TRANSLATIONS = {"HourglassNet": hourglass}
