"""What ``[params]`` says of some parameters: how fast they learn, how they decay, whether they are trained at all."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from detcore.errors import ConfigError, did_you_mean
from detcore.interfaces import Detector, Factory, Norm
from detcore.layers import LN

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, LN, Norm)
"""Normalisation layers, with all that derives from them; one of another class is reached by ``match``."""

Kind = Literal["norm", "bias"]


@attrs.frozen(kw_only=True)
class ParamRule:
    """``[params.NAME]``: what is different for the parameters that it matches. Factors of several rules multiply.

    Attributes:
        match: A regular expression, searched for in full names (``backbone.layer1.0.conv1.weight``).
        kind: Only these of them: ``norm``, the parameters of normalisation layers; ``bias``, the biases of all others.
        lr: Factor of the learning rate.
        weight_decay: Factor of the weight decay.
        layer_decay: Factor of the learning rate once for every block from a parameter to the end, its own included
            (Clark et al., ELECTRA); see :func:`blocks_to_the_end`.
        freeze: They are not trained, and a norm of which this holds keeps its statistics.

    Raises:
        ConfigError: ``match`` is not a regular expression; ``where`` is left empty.
    """

    match: str = ""
    kind: Kind | Sequence[Kind] = ()
    lr: NonNegativeFloat = 1.0
    weight_decay: NonNegativeFloat = 1.0
    layer_decay: PositiveFloat = 1.0
    freeze: bool = False

    def __attrs_post_init__(self) -> None:
        try:
            re.compile(self.match)
        except re.error as error:
            raise ConfigError("", f"match = {self.match!r} is not a regular expression: {error}") from error

    def matches(self, name: str, kind: str) -> bool:
        """Whether the rule is for a parameter of this name and kind."""
        kinds = (self.kind,) if isinstance(self.kind, str) else self.kind
        return (not kinds or kind in kinds) and re.search(self.match, name) is not None


Rules = Mapping[str, ParamRule]
"""Rules by what messages call them: ``configs/a.toml: params.backbone``."""


def factors(detector: nn.Module, rules: Rules) -> dict[str, tuple[float, float]]:
    """For each parameter the factors of its learning rate and its weight decay.

    Raises:
        ConfigError: A rule matches no parameter.
    """
    kinds = _kinds(detector)
    found = dict.fromkeys(kinds, (1.0, 1.0))
    for where, rule in rules.items():
        names = [name for name, kind in kinds.items() if rule.matches(name, kind)]
        if not names:
            raise ConfigError(where, "matches no parameter", _near(rule.match, kinds))
        blocks = blocks_to_the_end(detector, names)
        if rule.layer_decay != 1 and len(set(blocks.values())) == 1:
            raise ConfigError(
                where, "layer_decay: all that it matches is of one block", "Give each part a rule with lr."
            )
        for name, left in blocks.items():
            lr, decay = found[name]
            found[name] = lr * rule.lr * rule.layer_decay**left, decay * rule.weight_decay
    return found


def blocks_to_the_end(detector: nn.Module, names: Sequence[str]) -> dict[str, int]:
    """How many blocks there are from each of some parameters to the last of them, its own included.

    A block is an element of an innermost ``Sequential`` or ``ModuleList`` whose elements are modules of one class, made
    of modules themselves: a residual block, a transformer's layer. What is in none belongs to the block registered
    before it; what is before all (a stem, position embeddings) counts as a further block.
    """
    blocks = _blocks(detector)
    current, depth, depths = "", 0, {}
    for name in names:
        block = next((name[:dot] for dot in _dots(name) if name[:dot] in blocks), current)
        depth += block != current
        current, depths[name] = block, depth
    return {name: depth + 1 - each for name, each in depths.items()}


def freeze(detector: Detector, rules: Rules) -> None:
    """Take from training what rules freeze; norms that are frozen whole stay in evaluation mode from then on."""
    freezing = [rule for rule in rules.values() if rule.freeze]

    def is_frozen(name: str, kind: str) -> bool:
        return any(rule.matches(name, kind) for rule in freezing)

    kinds = _kinds(detector)
    for name, parameter in detector.named_parameters():
        if is_frozen(name, kinds[name]):
            parameter.requires_grad_(False)
    detector.frozen = [
        layer
        for path, layer in detector.named_modules()
        if isinstance(layer, NORMS)
        and all(is_frozen(f"{path}.{name}", "norm") for name in dict(layer.named_parameters()) or ["weight"])
    ]
    detector.train(detector.training)


def build_optimizer(
    detector: nn.Module, factory: Factory[Optimizer], rules: Rules | None = None, scale: float = 1.0
) -> Optimizer:
    """An optimizer over all parameters that require gradients, in groups of equal factors.

    Groups are in the order of their first parameters, and know the names of all; a state of other groups is refused.

    Args:
        detector: Whose parameters.
        factory: Called with parameter groups.
        rules: What is different for some parameters.
        scale: Factor of all learning rates.

    Raises:
        ConfigError: Nothing can be trained, a rule matches no parameter, or the optimizer cannot do what is asked.
    """
    rules = rules or {}
    by_name = factors(detector, rules)
    groups: dict[tuple[float, float], dict[str, nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(by_name[name], {})[name] = parameter
    if not groups:
        raise ConfigError("optimizer", "the detector has no parameter that requires a gradient")
    optimizer = factory([{"params": [*each.values()], "param_names": [*each]} for each in groups.values()])
    name = type(optimizer).__name__
    if inspect.signature(optimizer.step).parameters["closure"].default is inspect.Parameter.empty:
        raise ConfigError("optimizer", f"{name} computes the loss several times a step, which training does not offer")
    for group, (lr, decay) in zip(optimizer.param_groups, groups, strict=True):
        group["lr"] *= lr * scale
        if decay != 1:
            if "weight_decay" not in group:
                where = next(where for where, rule in rules.items() if rule.weight_decay != 1)
                raise ConfigError(where, f"optimizer {name} has no weight_decay")
            group["weight_decay"] *= decay
    optimizer.register_load_state_dict_pre_hook(_same_groups)
    return optimizer


def parameter_table(detector: nn.Module) -> str:
    """How many numbers of each part are trained, and how many norms keep their statistics while it trains.

    Read from a detector in training mode: ``backbone``, ``neck``, ``head``, ..., one line each, and their sum.
    """
    counts: dict[str, list[int]] = {}
    for name, parameter in detector.named_parameters():
        trained = parameter.numel() if parameter.requires_grad else 0
        _add(counts, name, trained, parameter.numel(), 0)
    for name, layer in detector.named_modules():
        if isinstance(layer, NORMS) and not layer.training:
            _add(counts, name, 0, 0, 1)
    counts["all"] = [sum(column) for column in zip(*counts.values(), strict=True)]
    rows = [["", "trained", "parameters", "frozen norms"]]
    rows += [[name, *(f"{count:,}" for count in row)] for name, row in counts.items()]
    width = max(map(len, counts))
    return "\n".join(f"{name:<{width}}" + "".join(f"{cell:>14}" for cell in cells) for name, *cells in rows)


def _add(counts: dict[str, list[int]], name: str, *numbers: int) -> None:
    part = name.partition(".")[0]
    counts[part] = [old + new for old, new in zip(counts.get(part, [0, 0, 0]), numbers, strict=True)]


def _kinds(detector: nn.Module) -> dict[str, str]:
    """The name of every parameter -> ``norm``, ``bias`` or neither."""
    norms = {path for path, module in detector.named_modules() if isinstance(module, NORMS)}
    return {
        name: "norm" if name.rpartition(".")[0] in norms else "bias" if name.endswith("bias") else ""
        for name, _ in detector.named_parameters()
    }


def _blocks(detector: nn.Module) -> set[str]:
    found = set[str]()
    for path, module in detector.named_modules():
        of_a_kind = len({type(child) for child in module.children()}) == 1
        if of_a_kind and isinstance(module, (nn.Sequential, nn.ModuleList)):
            first = next(module.children())
            if not isinstance(first, (nn.Sequential, nn.ModuleList)) and any(True for _ in first.children()):
                found.update(f"{path}.{name}" for name, _ in module.named_children())
    holders = {block[:dot] for block in found for dot in _dots(block)}
    return found - holders


def _dots(name: str) -> list[int]:
    """Where the dots of a name are, the last one first."""
    return [place for place in range(len(name) - 1, 0, -1) if name[place] == "."]


def _near(match: str, names: Mapping[str, str]) -> str:
    known = {piece for name in names for piece in [*name.split("."), *(name[:dot] for dot in _dots(name)), name]}
    parts = dict.fromkeys(name.partition(".")[0] for name in names)
    return did_you_mean(re.sub(r"[\\^$]", "", match).strip("."), sorted(known)) or f"Its parts: {', '.join(parts)}."


def _same_groups(optimizer: Optimizer, state: dict[str, Any]) -> None:
    ours = [group["param_names"] for group in optimizer.param_groups]
    if [group.get("param_names") for group in state["param_groups"]] != ours:
        raise ValueError("its groups of parameters are others: [params] or what is frozen has changed")
