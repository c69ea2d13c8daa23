"""A table as TOML that loads to the same table, and the differences between two tables."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping

import attrs

from detcore.config.paths import KeyPath, format_key, format_path, quote
from detcore.config.table import Origin, Setting, Table, plain


def dump(table: Table, without: Collection[str] = ()) -> str:
    """TOML of a folded, resolved table; ``load`` gives it back. None is ``{_none_ = true}``, ``${`` is ``$${``.

    Args:
        table: The table.
        without: Keys of its top level that are left out.
    """
    return "\n".join(_section(table, (), without)).strip("\n") + "\n"


def with_origins(table: Table) -> str:
    """One line per leaf, with the file or option that set it behind."""
    shown = leaves(table, whole_lists=True)
    lines = [(f"{format_path(path)} = {spell(each.value)}", each.origin.file) for path, each in shown]
    width = max((len(line) for line, _ in lines if len(line) <= 80), default=0)
    return "".join(f"{line:{width}}  # {file}\n" for line, file in lines)


def spell(value: object, *, loadable: bool = False) -> str:
    """A value as TOML spells it, on one line.

    Args:
        value: Of a table, or plain.
        loadable: Escape ``${``, and give each table of a list a line of its own.
    """
    match value:
        case None:
            return "{_none_ = true}"
        case str():
            return quote(value.replace("${", "$${") if loadable else value)
        case bool():
            return str(value).lower()
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Mapping():
            return f"{{{', '.join(_line(key, item, loadable) for key, item in value.items())}}}"
        case list() | tuple():
            items = [spell(item, loadable=loadable) for item in value]
            if loadable and any(isinstance(item, Mapping) for item in value):
                return "[\n" + "".join(f"  {item},\n" for item in items) + "]"
            return f"[{', '.join(items)}]"
        case _:
            return repr(value)  # of an int or float, inf and nan included: Python's spelling is TOML's


def _line(key: str, value: object, loadable: bool) -> str:
    return f"{format_key(key)} = {spell(value, loadable=loadable)}"


@attrs.frozen
class Change:
    """A leaf that differs; ``left`` or ``right`` is None where it is absent."""

    path: KeyPath
    left: Setting | None
    right: Setting | None


def diff(left: Table, right: Table) -> list[Change]:
    """The leaves that differ, in left's order, then those that only right has; ``1``, ``1.0`` and ``true`` differ."""
    old, new = dict(leaves(left)), dict(leaves(right))
    changes = [Change(path, old.get(path), new.get(path)) for path in old | new]
    return [change for change in changes if not _same(change.left, change.right)]


def _same(left: Setting | None, right: Setting | None) -> bool:
    return left is not None and right is not None and spell(left.value) == spell(right.value)


def leaves(table: Table, *, whole_lists: bool = False) -> Iterator[tuple[KeyPath, Setting]]:
    """Scalars and Nones by path, and empty tables and lists; with ``whole_lists`` every list that holds no table."""
    for key, value in table.items():
        yield from _leaves_of(value, (*table.path, key), table.origin(key), whole_lists)


def _leaves_of(value: object, path: KeyPath, origin: Origin, whole: bool) -> Iterator[tuple[KeyPath, Setting]]:
    if isinstance(value, Table) and value:
        yield from leaves(value, whole_lists=whole)
    elif isinstance(value, tuple) and (any(isinstance(item, Table) for item in value) if whole else value):
        for index, item in enumerate(value):
            yield from _leaves_of(item, (*path, index), origin, whole)
    else:
        yield path, Setting(plain(value), origin)


def _section(table: Table, path: tuple[str, ...], without: Collection[str] = ()) -> Iterator[str]:
    kept = {key: value for key, value in table.items() if key not in without}
    values = {key: value for key, value in kept.items() if not isinstance(value, Table)}
    if path and (values or not table):
        yield f"\n[{'.'.join(map(format_key, path))}]"
    yield from (_line(key, value, loadable=True) for key, value in values.items())
    for key, value in kept.items():
        if isinstance(value, Table):
            yield from _section(value, (*path, key))
