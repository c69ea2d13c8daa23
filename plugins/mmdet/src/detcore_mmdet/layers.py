"""Norms and activations: core's, by their names in mmcv."""

from __future__ import annotations

from detcore.foreign import Foreign, Part

ACTIVATIONS = {
    "ReLU": "ReLU",
    "LeakyReLU": "LeakyReLU",
    "Swish": "SiLU",
    "SiLU": "SiLU",
    "GELU": "GELU",
    "ELU": "ELU",
    "HSwish": "Hardswish",
    "Mish": "Mish",
    "Sigmoid": "Sigmoid",
}
"""Name there -> here."""


def batch_norm(name: str) -> object:
    """The translation of ``norm_cfg`` of a batch norm, which is ``name`` here."""

    def norm(table: Foreign) -> Part:
        return table.into(name, frozen=_frozen(table), **table.keep(eps="eps", momentum="momentum"))

    return norm


def group_norm(table: Foreign) -> Part:
    """``norm_cfg`` of a group norm."""
    if _frozen(table):
        table.lose("requires_grad", "group norms train here")
    return table.into("GN", **table.keep(num_groups="num_groups", eps="eps"))


def layer_norm(table: Foreign) -> Part:
    """``norm_cfg`` of a layer norm."""
    if _frozen(table):
        table.lose("requires_grad", "layer norms train here")
    return table.into("LN", eps=table.get("eps", 1e-5))


def _frozen(table: Foreign) -> bool | None:
    return True if table.get("requires_grad", True) is False else None


def activation(name: str) -> object:
    """The translation of ``act_cfg`` of an activation, which is ``name`` here."""

    def act(table: Foreign) -> Part:
        return table.into(name, **table.keep(inplace="inplace", negative_slope="negative_slope"))

    return act


def plain_convolution(table: Foreign) -> None:
    """``conv_cfg`` of what every convolution is without it."""


TRANSLATIONS = {
    "Conv": plain_convolution,
    "Conv2d": plain_convolution,
    "BN": batch_norm("BN"),
    "BN2d": batch_norm("BN"),
    "SyncBN": batch_norm("SyncBN"),
    "MMSyncBN": batch_norm("SyncBN"),
    "GN": group_norm,
    "LN": layer_norm,
    **{theirs: activation(ours) for theirs, ours in ACTIVATIONS.items()},
}
