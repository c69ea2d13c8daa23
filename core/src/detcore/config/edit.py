"""List edits: a table without ``type`` over an inherited list. Every position refers to the list as inherited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from detcore.config.paths import KeyPath, as_index, format_key
from detcore.config.table import Node, live
from detcore.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from detcore.config.fold import Folder  # the two fold each other's values

EDITS = ("_remove_", "_insert_before_", "_prepend_", "_append_")


def edit_list(folder: Folder, old: Node, raw: Mapping[str, object], path: KeyPath) -> Node | None:
    """Change items by index or type, then ``_remove_``, ``_insert_before_``, ``_prepend_``, ``_append_``."""
    inherited: tuple[Node, ...] = cast("tuple[Node, ...]", old.value)
    try:
        kept: list[Node | None] = list(inherited)
        for index, key in _places(inherited, [key for key in raw if key not in EDITS]).items():
            kept[index] = live(folder.fold(inherited[index], raw[str(key)], (*path, index)))
        for index in _places(inherited, _list(raw, "_remove_")):
            kept[index] = None
        before: dict[int, list[object]] = {}
        for place, items in map(_insertion, _list(raw, "_insert_before_")):
            before.setdefault(_place(inherited, place), []).extend(items)
        nodes = [*folder.items(_list(raw, "_prepend_"), path)]
        for index, node in enumerate(kept):
            nodes += folder.items(before.get(index, []), path)
            nodes += [] if node is None else [node]
        nodes += folder.items(_list(raw, "_append_"), path)
    except ConfigError as error:
        return folder.problem(old, path, error.found, error.fix)
    return folder.node(tuple(nodes), raw, old)


def _places(items: tuple[Node, ...], names: list[object]) -> dict[int, object]:
    """Index -> the name that chose it; each item is named at most once."""
    places: dict[int, object] = {}
    for name in names:
        index = _place(items, name)
        if index in places:
            raise ConfigError(
                "", f"{places[index]} and {name} are the same item of the inherited list", "Name it once."
            )
        places[index] = name
    return places


def _place(items: tuple[Node, ...], name: object) -> int:
    """The index of the item that an index (``1``, ``-1``) or a type names."""
    if isinstance(name, bool) or not isinstance(name, int | str):
        raise ConfigError("", f"{name!r} is neither an index nor a `type` of the inherited list")
    index = name if isinstance(name, int) else as_index(name)
    if index is None:
        return _place_of_type(items, str(name))
    if not -len(items) <= index < len(items):
        held = f"It has the items 0 to {len(items) - 1}." if items else "It is empty."
        raise ConfigError("", f"no item {index} in the inherited list", held)
    return index % len(items)


def _place_of_type(items: tuple[Node, ...], name: str) -> int:
    types = {index: kind for index, item in enumerate(items) if (kind := _type(item)) is not None}
    places = [index for index, kind in types.items() if kind == name]
    if len(places) > 1:
        choices = ", ".join(map(str, places[:-1])) + f" or {places[-1]}"
        raise ConfigError(
            "", f"{len(places)} items of the inherited list have type {format_key(name)}", f"Use {choices}."
        )
    if not places:
        known = f"It has: {', '.join(dict.fromkeys(types.values()))}." if types else "None of its items has a type."
        fix = f"{did_you_mean(name, types.values())} {known}".strip()
        raise ConfigError("", f"no item of the inherited list has type {format_key(name)}", fix)
    return places[0]


def _type(item: Node) -> str | None:
    found = item.child("type")
    return found[1].value if found and live(found[1]) and isinstance(found[1].value, str) else None


def _list(raw: Mapping[str, object], marker: str) -> list[object]:
    value = raw.get(marker, [])
    if not isinstance(value, list):
        raise ConfigError("", f"`{marker}` is not a list", f"Write `{marker} = [...]`.")
    return value


def _insertion(entry: object) -> tuple[object, list[object]]:
    if not isinstance(entry, dict) or entry.keys() != {"at", "items"} or not isinstance(entry["items"], list):
        fix = 'Write `_insert_before_ = [{at = "Normalize", items = [...]}]`.'
        raise ConfigError("", "an entry of `_insert_before_` is not a table of `at` and `items`", fix)
    return entry["at"], entry["items"]
