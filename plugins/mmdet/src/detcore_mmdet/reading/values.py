"""The values of a config while it is read, and what is given out in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detcore_mmdet.reading.limits import DEPTH, Budget, Refused

DELETE = "_delete_"


class Table(dict[Any, Any]):
    """A table that was inherited: ``x.key`` reads it, a table put into it is copied, ``update`` merges.

    MMEngine calls it ConfigDict. A table that the config writes itself is a plain dict, there as here.
    """

    __slots__ = ()


class Name(str):
    """A name that was imported: the class of that name, which nobody imports here. Attributes are names again."""

    __slots__ = ()


def kind(value: Any) -> str:
    """What a value is, in a message."""
    for types, word in _KINDS:
        if isinstance(value, types):
            return word
    return "none" if value is None else type(value).__name__


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (Name, "an imported name"),
    (str, "text"),
    (bool, "true or false"),
    ((int, float), "a number"),
    (dict, "a table"),
    (list, "a list"),
    (tuple, "a tuple"),
    (set, "a set"),
)


def tables(value: Any, budget: Budget, *, keep: bool = False, depth: int = 0) -> Any:
    """A copy whose tables are all :class:`Table`.

    Args:
        value: Any value.
        budget: Pays for it.
        keep: Leave what is a Table already as it is, the same object.
        depth: Of the value within the whole.
    """
    if depth > DEPTH:
        raise Refused(f"values are nested more than {DEPTH} levels deep")
    if isinstance(value, Table) and keep:
        return value
    if isinstance(value, dict):
        budget.spend(1 + len(value))
        return Table({key: tables(each, budget, keep=keep, depth=depth + 1) for key, each in value.items()})
    if isinstance(value, list | tuple):
        budget.spend(1 + len(value))
        return type(value)([tables(each, budget, keep=keep, depth=depth + 1) for each in value])
    return value


def update(table: dict[Any, Any], other: Mapping[Any, Any], budget: Budget, depth: int = 0) -> None:
    """Put the keys of ``other`` in; into a :class:`Table` at any depth, key by key."""
    if depth > DEPTH:
        raise Refused(f"values are nested more than {DEPTH} levels deep")
    budget.spend(len(other))
    for key, value in list(other.items()):
        if isinstance(table, Table) and isinstance(table.get(key), dict) and isinstance(value, dict):
            update(table[key], value, budget, depth + 1)
        else:
            table[key] = tables(value, budget, keep=True) if isinstance(table, Table) else value


def ordered(values: set[Any]) -> list[Any]:
    """The elements of a set in an order that is the same each time."""
    return sorted(values, key=lambda value: (type(value).__name__, repr(value)))


def plain(value: Any, budget: Budget, depth: int = 0) -> Any:
    """A copy of plain dicts, lists, tuples, strings, numbers, booleans and None; sets become lists."""
    if depth > DEPTH:
        raise Refused(f"values are nested more than {DEPTH} levels deep")
    budget.spend()
    if isinstance(value, dict):
        return {plain(key, budget, depth + 1): plain(value[key], budget, depth + 1) for key in value if key != DELETE}
    if isinstance(value, list | tuple | set):
        budget.spend(len(value))
        items = ordered(value) if isinstance(value, set) else value
        made = [plain(each, budget, depth + 1) for each in items]
        return tuple(made) if isinstance(value, tuple) else made
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(f"the string {value!a} holds half a character (a surrogate)") from None
    return str(value)
