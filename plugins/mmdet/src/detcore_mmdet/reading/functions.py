"""The functions that a config may call; there are no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detcore_mmdet.reading.formatting import scalar
from detcore_mmdet.reading.limits import Budget, Refused, whole
from detcore_mmdet.reading.values import kind, ordered

Call = Callable[..., Any]
"""Takes the budget before the config's own arguments."""


def items_of(value: Any, budget: Budget) -> list[Any]:
    """The elements of what a loop, ``*x`` or ``list(x)`` runs over; those of a set in one order."""
    if not isinstance(value, list | tuple | dict | set | str):
        raise Refused(f"{kind(value)} has no elements")
    budget.spend(1 + len(value))
    if isinstance(value, set):
        budget.weigh(value)
        return ordered(value)
    return list(value)


def _dict(budget: Budget, items: Any = (), /, **named: Any) -> dict[Any, Any]:
    if not isinstance(items, dict):
        items = [items_of(each, budget) for each in items_of(items, budget)]
        budget.weigh(*(each[0] for each in items if each))
    budget.spend(len(items) + len(named))
    return dict(items, **named)


def _list(budget: Budget, items: Any = (), /) -> list[Any]:
    return items_of(items, budget)


def _tuple(budget: Budget, items: Any = (), /) -> tuple[Any, ...]:
    return tuple(items_of(items, budget))


def _set(budget: Budget, items: Any = (), /) -> set[Any]:
    elements = items_of(items, budget)
    budget.weigh(elements)
    return set(elements)


def _str(budget: Budget, value: Any = "", /) -> str:
    text = str(scalar(value))
    budget.text(len(text))
    return text


def _int(budget: Budget, value: Any = 0, /) -> int:
    return whole(int(scalar(value)))


def _float(budget: Budget, value: Any = 0.0, /) -> float:
    return float(scalar(value))


def _bool(budget: Budget, value: Any = False, /) -> bool:
    return bool(value)


def _len(budget: Budget, value: Any, /) -> int:
    return len(value)


def _range(budget: Budget, /, *bounds: int) -> list[int]:
    numbers = range(*bounds)
    budget.spend(1 + max(0, (numbers.stop - numbers.start) // numbers.step + 1))
    return list(numbers)


def _enumerate(budget: Budget, items: Any, /, start: int = 0) -> list[tuple[int, Any]]:
    return list(enumerate(items_of(items, budget), start))


def _zip(budget: Budget, /, *items: Any) -> list[tuple[Any, ...]]:
    return list(zip(*(items_of(each, budget) for each in items), strict=False))


def _reversed(budget: Budget, items: Any, /) -> list[Any]:
    return items_of(items, budget)[::-1]


def _numbers(values: tuple[Any, ...], budget: Budget) -> list[Any]:
    numbers = items_of(values[0], budget) if len(values) == 1 else list(values)
    if not all(isinstance(each, int | float) for each in numbers):
        raise Refused("`min`, `max` and `sum` take numbers")
    return numbers


def _max(budget: Budget, /, *values: Any) -> Any:
    return max(_numbers(values, budget))


def _min(budget: Budget, /, *values: Any) -> Any:
    return min(_numbers(values, budget))


def _sum(budget: Budget, values: Any, /) -> Any:
    total = sum(_numbers((values,), budget))
    return whole(total) if isinstance(total, int) else total


def _abs(budget: Budget, value: Any, /) -> Any:
    return abs(value)


def _round(budget: Budget, value: Any, digits: int | None = None, /) -> Any:
    if not isinstance(value, int | float) or (digits is not None and abs(digits) > 100):
        raise Refused(f"{kind(value)} is not rounded to so many places")
    return round(value, digits)


FUNCTIONS: dict[str, Call] = {
    "abs": _abs,
    "bool": _bool,
    "dict": _dict,
    "enumerate": _enumerate,
    "float": _float,
    "int": _int,
    "len": _len,
    "list": _list,
    "max": _max,
    "min": _min,
    "range": _range,
    "reversed": _reversed,
    "round": _round,
    "set": _set,
    "str": _str,
    "sum": _sum,
    "tuple": _tuple,
    "zip": _zip,
}
