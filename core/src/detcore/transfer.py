"""Weights that were trained on some classes, for a model of others: what belongs to a class follows its name.

Which tensors belong to classes is found without knowing any model: those whose first dimension grows when the model is
built for one class more. Each class adds d rows, the others are background and attributes. They lie

* prior by prior, (d, attributes + C + background): the convolutions of dense heads, and linear layers (d = 1); or
* class by class, (C, d), where the module or one around it says ``class_major = True``, as every RoI head does.

One entry beside the classes is background and comes last, several are attributes and come first; a module that does it
otherwise says ``class_first``, the number of entries before the first class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor, nn

from detcore.errors import CheckpointError


@attrs.frozen
class Rows:
    """How the first dimension of a tensor is made up.

    Attributes:
        each: Rows of one class, d.
        others: Entries beside the classes, of d rows each.
        first: How many of them come before the first class.
        major: Class by class, (C, d), rather than (d, C).
    """

    each: int
    others: int
    first: int
    major: bool

    def by_entry(self, tensor: Tensor) -> Tensor:
        """(d * entries, ...) -> (entries, d, ...), a view."""
        size = tensor.shape[1:]
        return tensor.view(-1, self.each, *size) if self.major else tensor.view(self.each, -1, *size).swapaxes(0, 1)

    def moved(self, tensor: Tensor, fresh: Tensor, old: Sequence[str], new: Sequence[str]) -> Tensor | None:
        """``fresh``, of classes ``new``, with what ``tensor``, of classes ``old``, has for it; None: it is unlike."""
        if tensor.shape != (self.each * (self.others + len(old)), *fresh.shape[1:]):
            return None
        to, at = self._entries(new, old), self._entries(old, new)
        result = fresh.clone()
        self.by_entry(result)[to] = self.by_entry(tensor)[at].to(result)
        return result

    def _entries(self, classes: Sequence[str], others: Sequence[str]) -> list[int]:
        """The entries of ``classes`` that are also ``others``, by name, between what comes before and behind."""
        shared = sorted({*classes} & {*others})
        behind = range(self.first + len(classes), self.others + len(classes))
        return [*range(self.first), *(self.first + classes.index(name) for name in shared), *behind]


def class_rows(model: nn.Module, wider: nn.Module, classes: int) -> dict[str, Rows | None]:
    """The tensors of ``model`` that depend on its classes, by name; None where it is not their rows that do.

    Args:
        model: Of so many ``classes``.
        wider: The same model of one class more.
        classes: C.

    Raises:
        CheckpointError: It has a module for each class.
    """
    own, more = tensors_of(model), tensors_of(wider)
    if own.keys() != more.keys():
        names = ", ".join(sorted(more.keys() - own.keys())[:3])
        raise CheckpointError(
            "init_from", f"{type(model).__name__} has tensors for each class ({names}), which cannot be matched by name"
        )
    changed = [name for name, value in own.items() if value.shape != more[name].shape]
    return {name: _rows(model, name, own[name], more[name], classes) for name in changed}


def _rows(model: nn.Module, name: str, own: Tensor, more: Tensor, classes: int) -> Rows | None:
    each = len(more) - len(own)
    if own.shape[1:] != more.shape[1:] or each < 1:
        return None
    entries, rest = divmod(len(own), each)
    others = entries - classes
    first = _declared(model, name, "class_first", others if others > 1 else 0)
    fits = not rest and 0 <= first <= others
    return Rows(each, others, first, _declared(model, name, "class_major", False)) if fits else None


def _declared(model: nn.Module, name: str, attribute: str, default: Any) -> Any:
    """What the innermost module around a tensor says, of those that say anything."""
    module, said = model, getattr(model, attribute, default)
    for part in name.split(".")[:-1]:
        module = module.get_submodule(part)
        said = getattr(module, attribute, said)
    return said


def transfer(
    weights: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    rows: Mapping[str, Rows | None],
    old: Sequence[str] | None,
    new: Sequence[str],
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of the classes ``old`` for the classes ``new``, and a report of what became of the classes.

    Args:
        weights: By name.
        fresh: The model's own; what ``weights`` has nothing for stays as it is here.
        rows: As :func:`class_rows` gives them.
        old: None is not known: tensors of classes are then taken as they are, where their shape fits.
        new: The model's.
    """
    result, known = dict(weights), [name for name in rows if name in weights]
    if old is None:
        same = [name for name in known if weights[name].shape == fresh[name].shape]
        return result, _lines({"classes are not named, loaded row by row": same})
    unlike = []
    for name in known:
        rule, tensor = rows[name], result.pop(name)
        moved = rule.moved(tensor, fresh[name], old, new) if rule else None
        if moved is None:
            unlike.append(name)
        else:
            result[name] = moved
    report = {
        "classes transferred": [name for name in new if name in old],
        "new classes, fresh": [name for name in new if name not in old],
        "classes left behind": [name for name in old if name not in new],
        "fresh, as it is not told which rows are of which class": unlike,
    }
    return result, _lines(report)


def _lines(report: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{title}: {', '.join(names)}" for title, names in report.items() if names]


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module's state, by name."""
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
