"""The methods of tables, lists and strings that a config may call; there are no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from detcore_mmdet.reading.formatting import format_method
from detcore_mmdet.reading.functions import items_of
from detcore_mmdet.reading.limits import Budget, Refused, short
from detcore_mmdet.reading.merging import merge_tables
from detcore_mmdet.reading.values import Table, kind, tables, update

Method = Callable[..., Any]
"""Takes what it belongs to and the budget before the config's own arguments."""
_NOTHING = object()
_SHORT = 1000


def method(receiver: Any, name: str) -> Method:
    """The method of this name.

    Raises:
        Refused: There is none that a config may call.
    """
    for types, methods in _METHODS.items():
        if isinstance(receiver, types):
            if name in methods:
                return methods[name]
            raise Refused(
                f"the method `{short(name)}` of {kind(receiver)} is not read",
                f"There are {', '.join(sorted(methods))}.",
            )
    raise Refused(
        f"the method `{short(name)}` of {kind(receiver)} is not read", "Tables, lists and strings have methods."
    )


# ------------------------------------------------------------------------------------------------------------- tables


def _get(table: dict[Any, Any], budget: Budget, key: Any, default: Any = None, /) -> Any:
    budget.weigh(key)
    return table.get(key, default)


def _keys(table: dict[Any, Any], budget: Budget, /) -> list[Any]:
    return items_of(table, budget)


def _values(table: dict[Any, Any], budget: Budget, /) -> list[Any]:
    budget.spend(len(table))
    return list(table.values())


def _items(table: dict[Any, Any], budget: Budget, /) -> list[tuple[Any, Any]]:
    budget.spend(2 * len(table))
    return list(table.items())


def _copy(table: dict[Any, Any], budget: Budget, /) -> dict[Any, Any]:
    budget.spend(len(table))
    if isinstance(table, Table):
        return Table({key: tables(value, budget, keep=True) for key, value in table.items()})
    return dict(table)


def _update(table: dict[Any, Any], budget: Budget, other: Any = (), /, **named: Any) -> None:
    if not isinstance(other, dict):
        pairs = [items_of(each, budget) for each in items_of(other, budget)]
        budget.weigh(*(each[0] for each in pairs if each))
        other = dict(pairs)
    update(table, {**other, **named}, budget)


def _pop(table: dict[Any, Any], budget: Budget, key: Any, default: Any = _NOTHING, /) -> Any:
    budget.weigh(key)
    if key not in table and default is _NOTHING and not isinstance(table, Table):  # an inherited one gives None
        raise Refused(f"there is no key {key!r:.80} to take out")
    return table.pop(key, None if default is _NOTHING else default)


def _setdefault(table: dict[Any, Any], budget: Budget, key: Any, default: Any = None, /) -> Any:
    budget.weigh(key)
    if key not in table:
        update(table, {key: default}, budget)
    return table[key]


def _merge(table: dict[Any, Any], budget: Budget, other: Any, /) -> None:
    if not isinstance(table, Table) or not isinstance(other, dict):
        raise Refused("`merge` is for inherited tables, and takes a table", "Write `update`.")
    made = tables(merge_tables(tables(other, budget), tables(table, budget), budget), budget)
    table.clear()
    table.update(made)


# --------------------------------------------------------------------------------------------------------------- lists


def _append(items: list[Any], budget: Budget, value: Any, /) -> None:
    items.append(value)


def _extend(items: list[Any], budget: Budget, more: Any, /) -> None:
    items.extend(items_of(more, budget))


def _insert(items: list[Any], budget: Budget, at: int, value: Any, /) -> None:
    budget.spend(1 + len(items) // 64)
    items.insert(at, value)


def _pop_item(items: list[Any], budget: Budget, at: int = -1, /) -> Any:
    budget.spend(1 + len(items) // 64)
    return items.pop(at)


def _copy_items(items: list[Any], budget: Budget, /) -> list[Any]:
    return items_of(items, budget)


def _reverse(items: list[Any], budget: Budget, /) -> None:
    budget.spend(1 + len(items) // 64)
    items.reverse()


def _index(items: list[Any], budget: Budget, value: Any, /) -> int:
    budget.weigh(items, value)
    return items.index(value)


def _count(items: list[Any], budget: Budget, value: Any, /) -> int:
    budget.weigh(items, value)
    return items.count(value)


def _remove(items: list[Any], budget: Budget, value: Any, /) -> None:
    budget.weigh(items, value)
    items.remove(value)


# ------------------------------------------------------------------------------------------------------------- strings


def _of_text(name: str) -> Method:
    """A method of strings that makes nothing longer than what it is given."""

    def call(text: str, budget: Budget, /, *args: Any) -> Any:
        if any(isinstance(each, str) and len(each) > _SHORT for each in args):
            raise Refused(f"`{name}` of more than {_SHORT} characters")
        budget.spend(1 + len(text) // 16)
        made = getattr(str, name)(text, *args)
        if isinstance(made, list):
            budget.spend(len(made))
        return made

    return call


def _replace(text: str, budget: Budget, old: str, new: str, count: int = -1, /) -> str:
    budget.text(len(text) + (len(text) // max(1, len(old)) + 1) * len(new))
    return text.replace(old, new, count)


def _join(text: str, budget: Budget, items: Any, /) -> str:
    parts = items_of(items, budget)
    budget.text(sum(len(each) + len(text) for each in parts))
    return text.join(parts)


def _format(text: str, budget: Budget, /, *args: Any, **named: Any) -> str:
    return format_method(text, budget, args, named)


_OF_TABLES: dict[str, Method] = {
    "copy": _copy,
    "get": _get,
    "items": _items,
    "keys": _keys,
    "merge": _merge,
    "pop": _pop,
    "setdefault": _setdefault,
    "update": _update,
    "values": _values,
}
_OF_LISTS: dict[str, Method] = {
    "append": _append,
    "copy": _copy_items,
    "count": _count,
    "extend": _extend,
    "index": _index,
    "insert": _insert,
    "pop": _pop_item,
    "remove": _remove,
    "reverse": _reverse,
}
_OF_TEXT: dict[str, Method] = {
    "format": _format,
    "join": _join,
    "replace": _replace,
    **{
        name: _of_text(name)
        for name in (
            "endswith",
            "lower",
            "lstrip",
            "rstrip",
            "split",
            "startswith",
            "strip",
            "title",
            "upper",
        )
    },
}
_METHODS: Mapping[type, Mapping[str, Method]] = {dict: _OF_TABLES, list: _OF_LISTS, str: _OF_TEXT}
