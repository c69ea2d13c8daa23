"""What operators do in a config: nothing that takes long or makes much."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from detcore_mmdet.reading.formatting import percent
from detcore_mmdet.reading.limits import BITS, Budget, Refused, whole
from detcore_mmdet.reading.values import Table, kind, tables, update

_NUMBERS: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_SEQUENCES = (str, list, tuple)


def binary(kind_of: type[ast.operator], left: Any, right: Any, budget: Budget) -> Any:
    """``left + right`` and the like: of numbers, strings, lists and tuples."""
    if isinstance(left, int | float) and isinstance(right, int | float) and kind_of in _NUMBERS:
        return _number(kind_of, left, right)
    if kind_of is ast.Mod and isinstance(left, str):
        return percent(left, right, budget)
    if kind_of is ast.BitOr and isinstance(left, dict) and isinstance(right, dict):
        return _union(left, right, budget)
    if kind_of is ast.Add:
        for each in _SEQUENCES:
            if isinstance(left, each) and isinstance(right, each):
                _pay(each, len(left) + len(right), budget)
                return left + right  # type: ignore[operator]
    if kind_of is ast.Mult:
        items, times = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(items, _SEQUENCES) and isinstance(times, int):
            _pay(type(items), len(items) * max(times, 0), budget)
            return items * times
    sign = _NUMBERS[kind_of][0] if kind_of in _NUMBERS else kind_of.__name__
    raise Refused(f"{kind(left)} {sign} {kind(right)} is not computed")


def _union(left: dict[Any, Any], right: dict[Any, Any], budget: Budget) -> dict[Any, Any]:
    """``left | right``: the keys of both, and merged at any depth where one of them is inherited."""
    inherited = isinstance(left, Table) or isinstance(right, Table)
    budget.spend(len(left))
    made: dict[Any, Any] = tables(left, budget) if inherited else dict(left)
    update(made, right, budget)
    return made


def _pay(made: type, length: int, budget: Budget) -> None:
    if issubclass(made, str):
        budget.text(length)
    else:
        budget.spend(1 + length)


def _number(kind_of: type[ast.operator], left: Any, right: Any) -> int | float:
    if kind_of is ast.Pow and isinstance(left, int) and isinstance(right, int):
        _power(left, right)
    result = _NUMBERS[kind_of][1](left, right)
    if isinstance(result, complex):
        raise Refused("a complex number")
    return whole(result) if isinstance(result, int) else float(result)


def _power(base: int, exponent: int) -> None:
    if abs(base) > 1 and exponent * (base.bit_length() - 1) > BITS:  # before it is computed
        raise Refused(f"a whole number of more than {BITS} bits")


def unary(kind_of: type[ast.unaryop], value: Any) -> Any:
    """``-x``, ``+x`` and ``not x``."""
    if kind_of not in _UNARY or (kind_of is not ast.Not and not isinstance(value, int | float)):
        raise Refused(f"{kind_of.__name__} of {kind(value)} is not computed")
    return _UNARY[kind_of](value)


def compare(kind_of: type[ast.cmpop], left: Any, right: Any, budget: Budget) -> bool:
    """``left < right`` and the like, ``in`` and ``is``."""
    budget.weigh(left, right)
    return bool(_COMPARISONS[kind_of](left, right))
