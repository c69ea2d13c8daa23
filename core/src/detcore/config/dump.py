"""A table as TOML that loads to the same table, and the differences between two tables."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Literal

import attrs

from detcore.config.paths import KeyPath, format_key, quote
from detcore.config.table import Origin, Setting, Table, plain


def dump(table: Table) -> str:
    """TOML of a folded, resolved table; ``load`` gives it back. None is ``{_none_ = true}``, ``${`` is ``$${``."""
    return "\n".join(_section(table, ())).strip("\n") + "\n"


def format_scalar(value: object) -> str:
    """A scalar as TOML spells it."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return repr(value)  # of an int or float, inf and nan included: Python's spelling is TOML's


@attrs.frozen
class Change:
    """A leaf that differs; ``left`` or ``right`` is None where it is absent."""

    path: KeyPath
    left: Setting | None
    right: Setting | None

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """What happened on the way from left to right."""
        if self.left is None:
            return "added"
        return "removed" if self.right is None else "changed"


def diff_tables(left: Table, right: Table) -> list[Change]:
    """The leaves that differ, in left's order, then those that only right has; ``1``, ``1.0`` and ``true`` differ."""
    old, new = dict(_leaves(left)), dict(_leaves(right))
    changes = [Change(path, old.get(path), new.get(path)) for path in old | new]
    return [change for change in changes if not _same(change)]


def _same(change: Change) -> bool:
    if change.left is None or change.right is None:
        return False
    return format_scalar(change.left.value) == format_scalar(change.right.value)


def _leaves(table: Table) -> Iterator[tuple[KeyPath, Setting]]:
    """Scalars and Nones by path, relative to nothing; an empty table or list counts as a leaf."""
    for key, value in table.items():
        yield from _leaves_of(value, (*table.path, key), table.origin(key))


def _leaves_of(value: object, path: KeyPath, origin: Origin) -> Iterator[tuple[KeyPath, Setting]]:
    if isinstance(value, Table) and value:
        yield from _leaves(value)
    elif isinstance(value, tuple) and value:
        for index, item in enumerate(value):
            yield from _leaves_of(item, (*path, index), origin)
    else:
        yield path, Setting(plain(value), origin)


def _section(table: Table, path: tuple[str, ...]) -> Iterator[str]:
    values = {key: value for key, value in table.items() if not isinstance(value, Table)}
    if path and (values or not table):
        yield f"\n[{'.'.join(map(format_key, path))}]"
    for key, value in values.items():
        yield f"{format_key(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, Table):
            yield from _section(value, (*path, key))


def _value(value: object) -> str:
    if value is None:
        return "{_none_ = true}"
    if isinstance(value, Table):
        items = ", ".join(f"{format_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{{items}}}"
    if isinstance(value, tuple):
        return _list(value)
    return format_scalar(value.replace("${", "$${") if isinstance(value, str) else value)


def _list(items: tuple[object, ...]) -> str:
    """On one line, or one line per item where an item is a table."""
    texts = [_value(item) for item in items]
    if any(isinstance(item, Table) for item in items):
        return "[\n" + "".join(f"  {text},\n" for text in texts) + "]"
    return f"[{', '.join(texts)}]"
