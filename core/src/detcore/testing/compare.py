"""What all checks share: the error they raise, and how two results are held against each other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor


class ConformanceError(AssertionError):
    """A component breaks a contract.

    Args:
        component: Its name.
        found: Which contract it breaks, and how.
        fix: What would be right.
    """

    def __init__(self, component: str, found: str, fix: str = "") -> None:
        super().__init__(f"{component}: {found}. {fix}" if fix else f"{component}: {found}")


@contextmanager
def during(name: str, what: str) -> Iterator[None]:
    """Whatever is raised inside breaks the contract."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConformanceError(name, f"raises {type(error).__name__} {what}: {text}") from error


@contextmanager
def unchanged(name: str, what: str, *values: Any) -> Iterator[None]:
    """Nobody inside writes on ``values``."""
    with torch.no_grad():
        before = copied(values)
    yield
    if difference := different(before, values):
        raise ConformanceError(name, f"changes {what} in place: {difference}", "Others read it, too.")


def copied(value: Any) -> Any:
    """A copy of a tree, whose tensors are leaves without gradient."""
    if isinstance(value, Tensor):
        with torch.no_grad():  # a subclass, such as boxes of an image, stays what it is
            return copy.deepcopy(value) if type(value) is not Tensor else value.detach().clone()
    return [copied(each) for each in value] if isinstance(value, Sequence) else copy.deepcopy(value)


def tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tree of records, mappings, sequences and tensors with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if attrs.has(type(value)):
        fields = [each.name for each in attrs.fields(type(value)) if each.init]
        return attrs.evolve(value, **{name: tensors(getattr(value, name), change) for name in fields})
    if isinstance(value, Mapping):
        return {name: tensors(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(tensors(each, change) for each in value)
    return value


def different(one: Any, other: Any, where: str = "", *, rtol: float = 1e-4, atol: float = 1e-5) -> str:
    """Where two trees of records and tensors differ beyond rounding; the empty string where they do not."""
    place = where or "it"
    if attrs.has(type(one)) and type(one) is type(other):
        fields = [each.name for each in attrs.fields(type(one)) if each.init]
        one, other = ({name: getattr(each, name) for name in fields} for each in (one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if kind(one) != kind(other):
            return f"{place} is {kind(one)}, then {kind(other)}"
        a, b = (each.detach().as_subclass(Tensor) for each in (one, other))
        close = torch.allclose(a, b, rtol, atol, equal_nan=True) if a.is_floating_point() else torch.equal(a, b)
        return "" if close else f"{place} has other values"
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return f"{place} has {[*one]}, then {[*other]}"
        pairs = [(f"{where}.{key}".strip("."), one[key], other[key]) for key in one]
    elif isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str | bytes):
        if len(one) != len(other):
            return f"{place} has {len(one)} elements, then {len(other)}"
        pairs = [(f"{where}[{number}]", *each) for number, each in enumerate(zip(one, other, strict=True))]
    else:
        return "" if one == other else f"{place} is {one!r}, then {other!r}"
    found = (different(a, b, at, rtol=rtol, atol=atol) for at, a, b in pairs)
    return next(filter(None, found), "")


def kind(tensor: Tensor) -> str:
    """Shape and type of a tensor: ``(2, 3) float32``."""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
