"""A config as readable TOML, on fragments of detcore where these make it shorter; what is written is read again.

The differences to the fragments are computed: a table is merged, a list is edited, and what is inherited and not
wanted is deleted. :func:`written` folds the text as core does and compares the result with what was to be written.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import tomlkit
from detcore import load_config
from detcore.errors import ConfigError, UserError
from detcore.plugins import resolve_dist
from tomlkit.items import Array, InlineTable

DELETE = {"_delete_": True}
NOTHING = {"_none_": True}
GROUPS = ("models", "datasets", "schedules", "runtime")
"""Folders of fragments, of each of which one is taken at most."""
ORDER = (
    "_base_", "data_root", "classes", "seed", "init_from", "model", "preprocess", "train", "val", "optimizer", "params",
    "schedule", "callbacks",
)  # fmt: skip
WORTH = 150
"""Characters that a fragment has to save."""
WIDTH = 110
"""Characters of a line that a table within it may have."""
DEEP = 3
"""From how deep on tables may stand within a line."""
COMMENTED = re.compile(r"(?m)^(#.*)\n\n(?=\[)")
"""A comment and the empty line before the section that it is on."""
Differences = dict[str, Any]


def written(table: Mapping[str, Any], notes: Mapping[str, Sequence[str]], header: Sequence[str]) -> str:
    """TOML that folds to a table.

    Args:
        table: What it says.
        notes: Comments, by the section that they stand before.
        header: Comment lines at the top.

    Raises:
        ConfigError: What the text folds to is another table: a fault of this module.
    """
    meant = {key: _none(value) for key, value in table.items()}
    root, target = with_root(meant)
    where = ""
    for groups in (GROUPS, GROUPS[1:], ()):  # what a fragment writes as a reference cannot be merged with
        bases, differences = on_fragments(root, target, groups)
        lines = {"_base_": bases, **root, **differences} if bases else {**root, **differences}
        for more in (
            {},
            {"data_root": dict(DELETE)},
        ):  # a fragment's, if nothing of the fragment's is left that reads it
            text = render({**lines, **more}, notes, header)
            try:
                found = folded(text)
            except UserError as error:
                where = str(error)
                break
            if same(found, meant):
                return text
            where = next(_unequal(found, meant, ()), "")
    raise ConfigError("import-mmdet", f"what was to be written reads as something else: {' '.join(where.split())}")


def _none(value: Any) -> Any:
    """A value of a translation, with None where that says so in the words of a file."""
    if isinstance(value, Mapping):
        return None if value == NOTHING else {key: _none(each) for key, each in value.items()}
    return [_none(each) for each in value] if isinstance(value, list) else value


def with_root(table: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The folder that all paths of data begin with, and the table with references to it."""
    folders = [Path(each) for each in _paths(table)]
    common = [each.parts for each in folders if not each.is_absolute()]
    shared: list[str] = []
    for pieces in zip(*common, strict=False):
        if len(set(pieces)) > 1:
            break
        shared.append(pieces[0])
    root = "/".join(shared)
    longest = min((len(each) for each in common), default=0)
    if not root or root in (".", "..") or len(common) < 2 or len(shared) >= longest:
        return {}, dict(table)
    return {"data_root": root}, _referring(dict(table), root)


def _paths(value: Any) -> Iterator[str]:
    """Paths of data sets."""
    for split in ("train", "val"):
        yield from _paths_of(value.get(split, {}).get("dataset"))


def _paths_of(dataset: Any) -> Iterator[str]:
    if isinstance(dataset, Mapping):
        for key, each in dataset.items():
            if key in ("annotations", "images", "root", "source", "descriptions", "file") and isinstance(each, str):
                if "VOC" not in str(dataset.get("type")) or key == "root":
                    yield each
            else:
                yield from _paths_of(each)


def _referring(value: Any, root: str) -> Any:
    table = dict(value)
    for split in ("train", "val"):
        if isinstance(table.get(split), Mapping) and "dataset" in table[split]:
            table[split] = {**table[split], "dataset": _refer(table[split]["dataset"], root)}
    return table


def _refer(value: Any, root: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _refer(each, root) for key, each in value.items()}
    if isinstance(value, str) and value.startswith(f"{root}/"):
        return "${data_root}" + value[len(root) :]
    return value


# ------------------------------------------------------------------------------------------------ fragments


def on_fragments(
    root: Mapping[str, str], target: Mapping[str, Any], groups: Sequence[str] = GROUPS
) -> tuple[list[str], Differences]:
    """The fragments that make a config shorter, and what is different from them."""
    bases: list[str] = []
    best = dict(target)
    size = _size(best)
    for group in groups:
        chosen = ""
        for fragment in _fragments(group):
            tried = [*bases, fragment]
            inherited = _inherited(tuple(tried), root.get("data_root", ""))
            differences = difference(inherited, _resolved(target, root))
            differences = _refer(differences, root["data_root"]) if root else differences
            if (length := _size(differences)) < size - WORTH:
                best, size, chosen = differences, length, fragment
        bases += [chosen] if chosen else []
    return bases, best


def _fragments(group: str) -> list[str]:
    folder = resolve_dist("detcore", "quickstart.toml").parent / "_base_" / group
    return [f"detcore::_base_/{group}/{path.name}" for path in sorted(folder.glob("*.toml"))]


@cache
def _inherited(bases: tuple[str, ...], root: str) -> dict[str, Any]:
    """What fragments fold to; ``root`` is where data are, if anywhere."""
    found = folded(render({"_base_": [*bases], **({"data_root": root} if root else {})}, {}, ()))
    return {key: value for key, value in found.items() if key != "data_root"}


def _resolved(value: Any, root: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(each, root) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, root) for each in value]
    return value.replace("${data_root}", root["data_root"]) if isinstance(value, str) and root else value


def folded(text: str) -> dict[str, Any]:
    """What TOML says, its bases and references included; a folder of data that references read is not said."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.write_text(text, "utf-8")
        config = load_config(str(path))
    meant = config.table.keys() - {"vars"} - ({"data_root"} if ("data_root",) in config.read else set())
    return {key: value for key, value in config.table.plain().items() if key in meant}


def difference(old: Any, new: Any) -> Any:
    """What has to be written over an inherited table so that it is another one; both plain and not the same."""
    found: Differences = {}
    for key in new:
        if key not in old:
            found[key] = new[key]
        elif not same(old[key], new[key]):
            found[key] = _over(old[key], new[key])
    found |= {key: dict(DELETE) for key in old if key not in new}
    return found


def _over(old: Any, new: Any) -> Any:
    """One value over another."""
    if new is None:
        return dict(NOTHING) if not isinstance(old, dict | list) else {**DELETE, **NOTHING}
    if isinstance(new, dict) and isinstance(old, dict):
        merged, replaced = difference(old, new), {**DELETE, **new}
        other = old.get("type") != new.get("type")
        return replaced if not new or other or 2 * _size(replaced) < _size(merged) else merged
    if isinstance(new, dict):
        return {**DELETE, **new}
    if isinstance(old, dict):
        return {**DELETE, "_value_": new}
    if isinstance(new, list) and isinstance(old, list):
        edited = _edited(old, new)
        return new if edited is None or _size(new) < _size(edited) else edited
    return new


def _edited(old: list[Any], new: list[Any]) -> Differences | None:
    """Changes of some items of a list of tables; None where it is another list."""
    tables = all(isinstance(each, dict) for each in [*old, *new])
    if len(old) != len(new) or not tables or any(a.get("type") != b.get("type") for a, b in zip(old, new, strict=True)):
        return None
    types = [each.get("type") for each in old]
    found: Differences = {}
    for index, (before, after) in enumerate(zip(old, new, strict=True)):
        if not same(before, after):
            kind = types[index]
            named = isinstance(kind, str) and types.count(kind) == 1 and len(types) > 1
            found[kind if named else str(index)] = _over(before, after)
    return found


def same(one: Any, other: Any) -> bool:
    """Whether values are equal and of one type: 1, 1.0 and true differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def _size(value: Any) -> int:
    """How long a value is, written."""
    if isinstance(value, dict):
        return sum(len(str(key)) + 4 + _size(each) for key, each in value.items()) + 2
    if isinstance(value, list):
        return sum(_size(each) + 2 for each in value) + 2
    return len(repr(value))


def _unequal(one: Any, other: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            if key not in one or key not in other:
                yield ".".join((*path, key))
            else:
                yield from _unequal(one[key], other[key], (*path, key))
    elif not same(one, other):
        yield ".".join(path)


# ------------------------------------------------------------------------------------------------ text


def render(table: Mapping[str, Any], notes: Mapping[str, Sequence[str]], header: Sequence[str]) -> str:
    """TOML of a table, in the order of ours."""
    document = tomlkit.document()
    elsewhere = [line for key, lines in notes.items() if key not in table for line in lines]
    for line in [*header, *elsewhere]:
        document.add(tomlkit.comment(line))
    keys = [key for key in ORDER if key in table] + [key for key in table if key not in ORDER]
    sections = [key for key in keys if _is_section(table[key], 1)]
    for key in [key for key in keys if key not in sections]:
        for line in notes.get(key, ()):
            document.add(tomlkit.comment(line))
        document.add(key, _value(table[key], len(key)))
    for key in sections:
        document.add(tomlkit.nl())
        for line in notes.get(key, ()):
            document.add(tomlkit.comment(line))
        document.add(key, _section(table[key], 1))
    text = tomlkit.dumps(document).strip("\n") + "\n"
    return COMMENTED.sub(r"\1\n", text)


def _is_section(value: Any, depth: int) -> bool:
    """Whether a value gets a head of its own: a table that is too long for a line, or a list of such."""
    if isinstance(value, Mapping):
        return not _short(value) and (depth < DEEP or _line(value) > WIDTH)
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        return any(_line(each) > WIDTH + 10 or _holds_tables(each) for each in value) if depth > 1 else True
    return False


def _short(table: Mapping[str, Any]) -> bool:
    """A marker that stands in the line of its key."""
    return not table or ({*table} <= {"_delete_", "_none_", "_value_"})


def _holds_tables(table: Mapping[str, Any]) -> bool:
    return any(isinstance(each, Mapping) for each in table.values()) and _line(table) > WIDTH


def _section(value: Any, depth: int) -> Any:
    if isinstance(value, list):
        tables = tomlkit.aot()
        for each in value:
            tables.append(_table(each, depth))
        return tables
    return _table(value, depth)


def _table(value: Mapping[str, Any], depth: int) -> Any:
    table = tomlkit.table()
    sections = [key for key in value if _is_section(value[key], depth + 1)]
    for key in [key for key in value if key not in sections]:
        table.add(key, _value(value[key], len(key)))
    for key in sections:
        table.add(key, _section(value[key], depth + 1))
    return table


def _value(value: Any, used: int) -> Any:
    """A value within a line; a list that is too long has a line for each item."""
    if value is None:
        return _inline(NOTHING)
    if isinstance(value, Mapping):
        return _inline(value)
    if isinstance(value, list):
        return _array(value, used)
    return tomlkit.item(value)


def _inline(value: Mapping[str, Any]) -> InlineTable:
    table = tomlkit.inline_table()
    for key, each in value.items():
        table.append(key, _value(each, WIDTH if isinstance(each, list) and _line(each) <= WIDTH else 0))
    return table


def _array(value: list[Any], used: int) -> Array:
    """A list: within a line, or a line for each table, or as much in each line as it holds."""
    array = tomlkit.array()
    items = [_value(each, 0) for each in value]
    tables = any(isinstance(each, Mapping) for each in value)
    if used == WIDTH or not (used + _line(value) > WIDTH or (tables and len(value) > 1)):
        array.extend(items)
        return array
    for line in _lines(value, 1 if tables else WIDTH):
        array.add_line(*(items[index] for index in line), indent="    ")
    return array.multiline(False) if not items else _closed(array)


def _closed(array: Array) -> Array:
    """The closing bracket in a line of its own."""
    array.add_line(indent="", add_comma=False)
    return array


def _lines(value: list[Any], width: int) -> list[list[int]]:
    """Indices of items, line by line; of a width of 1 each has its own."""
    lines: list[list[int]] = []
    filled = 0
    for index, each in enumerate(value):
        length = _line(each) + 2
        if not lines or width == 1 or filled + length > width:
            lines.append([])
            filled = 4
        lines[-1].append(index)
        filled += length
    return lines


def _line(value: Any) -> int:
    """The length of a value within a line."""
    if value is None:
        return 18
    if isinstance(value, Mapping):
        return 4 + sum(len(key) + 5 + _line(each) for key, each in value.items())
    if isinstance(value, list):
        return 2 + sum(2 + _line(each) for each in value)
    return len(tomlkit.item(value).as_string())
