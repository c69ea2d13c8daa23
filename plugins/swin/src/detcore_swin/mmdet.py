"""The backbone by its name in MMDetection."""

from __future__ import annotations

from detcore.foreign import Foreign, Part

DEPTHS, HEADS, OUTS = [2, 2, 6, 2], [3, 6, 12, 24], [0, 1, 2, 3]
"""Of the stages, where nothing is said."""


def swin(backbone: Foreign) -> Part:
    """SwinTransformer. It keeps stages beyond the last map that it returns, which nothing reads."""
    backbone.only(in_channels=3, patch_size=4, qkv_bias=True, qk_scale=None, patch_norm=True, pretrained=None)
    backbone.only(drop_rate=0.0, attn_drop_rate=0.0, use_abs_pos_embed=False, act_cfg={"type": "GELU"})
    for unused in ("with_cp", "pretrain_img_size"):  # memory; absolute positions
        backbone.get(unused)
    depths, outs = backbone.get("depths", DEPTHS), sorted(backbone.get("out_indices", OUTS))
    heads = _head_channels(backbone, len(depths))
    _only_layer_norms(backbone)
    _only_halving(backbone, len(depths))
    if backbone.get("convert_weights", False) and "init_cfg" in backbone:
        backbone.lose("convert_weights", "weights with the names of the paper's own code do not fit")
    return backbone.into(
        "SwinTransformer",
        absent=_unread(max(outs), len(depths)),
        **backbone.keep(channels="embed_dims", depths="depths", window="window_size", mlp_ratio="mlp_ratio"),
        head_channels=None if heads == 32 else heads,
        drop_path=backbone.get("drop_path_rate", 0.1),
        out_indices=None if outs == OUTS else outs,
        **backbone.keep(frozen_stages="frozen_stages"),
    )


def _head_channels(backbone: Foreign, stages: int) -> int:
    """There the number of heads is said for each stage; here it follows from how wide a head is."""
    channels, heads = backbone.get("embed_dims", 96), backbone.get("num_heads", HEADS)[:stages]
    width: int = channels // heads[0]
    if [width * each for each in heads] != [channels * 2**stage for stage in range(stages)]:
        backbone.lose("num_heads", "only heads that are equally wide in all stages have a counterpart")
    return width


def _only_layer_norms(backbone: Foreign) -> None:
    norm = backbone.part("norm_cfg")
    if norm is not None and norm.plain != {"type": "LN", "eps": 1e-5}:
        backbone.lose("norm_cfg", "only LN has a counterpart")


def _only_halving(backbone: Foreign, stages: int) -> None:
    expected = [4, *[2] * (stages - 1)]
    if backbone.get("strides", expected)[:stages] != expected:
        backbone.lose("strides", f"only {expected} have a counterpart")


def _unread(last: int, stages: int) -> tuple[str, ...]:
    """Tensors behind the last map."""
    behind = [rf"stages\.{stage}\..*" for stage in range(last + 1, stages)]
    return (rf"stages\.{last}\.downsample\..*", *behind) if behind else ()


TRANSLATIONS = {"SwinTransformer": swin}
