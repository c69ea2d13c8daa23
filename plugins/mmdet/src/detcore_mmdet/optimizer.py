"""MMEngine's ``optim_wrapper``: the optimizer, what is different for some parameters, clipping, precision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from detcore.foreign import Foreign, Part

NORM = {"kind": "norm"}
Rules = dict[str, dict[str, Any]]


@attrs.frozen
class Optimizer:
    """What ``optim_wrapper`` says.

    Attributes:
        optimizer: ``[optimizer]``.
        train: Keys of ``[train]``.
        paramwise: The rules of ``paramwise_cfg``, to be made rules of ours by :func:`rules`.
    """

    optimizer: dict[str, Any]
    train: dict[str, Any]
    paramwise: Foreign

    @property
    def rate(self) -> float | None:
        """The learning rate."""
        return self.optimizer.get("lr")


def optimizer(table: Foreign) -> Optimizer:
    """An ``optim_wrapper``."""
    if table.get("constructor") not in (None, "DefaultOptimWrapperConstructor", "DefaultOptimizerConstructor"):
        table.lose("constructor", "which parameters have which rate is said by [params] here")
    kind = table.get("type", "OptimWrapper")
    train: dict[str, Any] = {}
    if kind == "AmpOptimWrapper":
        train["amp"] = "bf16" if "bfloat16" in str(table.get("dtype")) else "fp16"
        table.get("loss_scale")  # it is found here, as with "dynamic"
        table.get("use_fsdp")
    elif kind != "OptimWrapper":
        table.lose("type", "only OptimWrapper and AmpOptimWrapper have a counterpart")
    if (accumulated := table.get("accumulative_counts", 1)) != 1:
        train["accumulate"] = accumulated
    if table.get("clip_grad") is not None:
        clip = table.table("clip_grad")
        clip.only(norm_type=2, type="norm", error_if_nonfinite=False)
        if (most := clip.get("max_norm")) is not None:
            train["clip_grad"] = float(most)
    return Optimizer(_own(table.table("optimizer")), train, table.table("paramwise_cfg"))


def _own(table: Foreign) -> dict[str, Any]:
    """The table ``[optimizer]``, of torch's keys; those of a type that torch does not have are listed."""
    kind = table.get("type")
    if kind is None:
        return {}
    if not hasattr(torch.optim, str(kind)):
        table.read |= {*table.values}
        table.lose("type", "torch.optim has no such optimizer")
        return {}
    keys = {key: table.get(key) for key in table.values if key not in ("type", "paramwise_cfg", "_scope_")}
    return {"type": kind, **{key: value for key, value in keys.items() if value is not None}}


def rules(table: Foreign, part: Part | None) -> Rules:
    """``paramwise_cfg`` as ``[params]``.

    There a key of ``custom_keys`` that a parameter's name contains decides alone, the longest one first; else what is
    said of norms, of biases and of depthwise convolutions.

    Args:
        table: It.
        part: The detector; its names of tensors say what a key there is here.
    """
    table.get("bypass_duplicate")  # shared parameters are listed once here
    keys = table.table("custom_keys")
    names = sorted(sorted(keys.values), key=len, reverse=True)
    found = _custom(keys, names, part)
    others = f"^(?!.*({'|'.join(map(re.escape, names))}))" if names else ""
    norm, bias = table.get("norm_decay_mult"), table.get("bias_decay_mult")
    bias_rate = table.get("bias_lr_mult")
    for key in ("dcn_offset_lr_mult", "dwconv_decay_mult", "flat_decay_mult"):
        if table.get(key, 1) not in (None, 1):
            table.lose(key, "no rule is for such parameters alone")
    where = {"match": others} if others else {}
    if norm is not None and norm == bias and bias_rate is None:
        found["plain"] = {**where, "kind": ["norm", "bias"], "weight_decay": norm}
        return found
    if norm is not None:
        found["norm"] = {**where, **NORM, "weight_decay": norm}
    elif bias is not None:  # those of norms as well, there
        found["norm_bias"] = {"match": f"{others}.*bias$" if others else "bias$", **NORM, "weight_decay": bias}
    factors = {"lr": bias_rate, "weight_decay": bias}
    if any(value is not None for value in factors.values()):
        kept = {key: value for key, value in factors.items() if value is not None}
        found["bias"] = {**where, "kind": "bias", **kept}
    return found


def _custom(keys: Foreign, names: list[str], part: Part | None) -> Rules:
    """Rules for parts of names; those with the same factors are one."""
    same: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for name in names:
        table = keys.table(name)
        factors = {"lr": table.get("lr_mult", 1.0), "weight_decay": table.get("decay_mult", 1.0)}
        same.setdefault(tuple((key, float(value)) for key, value in factors.items() if value != 1), []).append(name)
    found: Rules = {}
    for number, (factors_, members) in enumerate(same.items(), 1):
        if not factors_:
            continue
        longer = [other for other in names if other not in members and _may_meet(other, members)]
        match = "|".join(_ours(name, part) for name in members)
        before = f"^(?!.*({'|'.join(map(re.escape, longer))})).*" if longer else ""
        match = f"{before}({match})" if before and len(members) > 1 else before + match
        title = re.sub(r"\W+", "_", members[0]).strip("_") if len(members) == 1 else f"custom{number}"
        found[title] = {"match": match, **dict(factors_)}
    return found


def _may_meet(other: str, members: list[str]) -> bool:
    """Whether a longer key can decide in place of one of these."""
    return any(len(other) > len(name) for name in members)


def _ours(name: str, part: Part | None) -> str:
    """A piece of a name there as a regular expression over names here."""
    places = dict(part.parts()) if part is not None else {}
    homes = {inner.home: path for path, inner in places.items() if "." not in path}
    if name in homes:
        return f"^{re.escape(homes[name])}\\."
    first, dot, rest = name.partition(".")
    if dot and first in homes:
        return f"^{re.escape(homes[first])}\\.{re.escape(rest)}"
    return re.escape(name).replace("\\_", "_")


def base_batch_size(table: Foreign) -> tuple[int | None, bool]:
    """``auto_scale_lr``: the images a step that the rate is meant for, and whether it is scaled to others."""
    return table.get("base_batch_size"), bool(table.get("enable", False))


def plain_rules(found: Rules) -> Mapping[str, Mapping[str, Any]]:
    """Rules without those that change nothing."""
    return {name: rule for name, rule in found.items() if {"lr", "weight_decay"} & rule.keys()}
