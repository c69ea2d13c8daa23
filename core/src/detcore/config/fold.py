"""Folding: one layer (a parsed file, an option) over what was inherited. Pure; problems are collected, not raised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

from detcore.config.edit import EDITS, edit_list
from detcore.config.paths import MAX_DEPTH, KeyPath, format_key
from detcore.config.table import Node, Origin, Setting, live
from detcore.errors import ConfigError, UserError, did_you_mean

MARKERS = ("_base_", "_delete_", "_value_", "_none_", "_wrap_", *EDITS)
_MARKER = re.compile(r"_\w+_")


@attrs.frozen
class Layer:
    """What one file or option says, as TOML gives it and without its ``_base_``; ``folder`` is its ``${here}``."""

    raw: Mapping[str, object]
    origin: Origin
    folder: str


@attrs.frozen
class Folded:
    """The result of folding layers; worth using only when there are no problems."""

    root: Node
    warnings: tuple[str, ...]
    problems: tuple[UserError, ...]


def fold_layers(layers: Iterable[Layer]) -> Folded:
    """Fold layers, the first one lowest."""
    root = Node({}, (), gone=True)
    warnings: list[str] = []
    problems: list[UserError] = []
    for layer in layers:
        root = Folder(layer, warnings, problems).fold_root(root)
    return Folded(root, tuple(warnings), tuple(problems))


@attrs.frozen
class Folder:
    """Folds one layer; what is wrong goes to ``problems``, and the inherited node stays in its place."""

    layer: Layer
    warnings: list[str]
    problems: list[UserError]

    def fold_root(self, old: Node) -> Node:
        """The whole layer over the whole inherited tree; a root is never removed."""
        node = self._table(old, self.layer.raw, ()) or old
        return attrs.evolve(node, gone=False)

    def fold(self, old: Node | None, raw: object, path: KeyPath) -> Node | None:
        """``raw`` over ``old``; None or a node that is gone when nothing is left of the key."""
        if len(path) > MAX_DEPTH:
            return self.problem(old, path[:4], f"tables nested more than {MAX_DEPTH} levels deep begin here")
        if isinstance(raw, dict):
            return self._table(old, raw, path)
        return self._value(old, raw, raw, path)

    def items(self, raw: list[object], path: KeyPath) -> tuple[Node, ...]:
        """The items of a new list; one that is only ``{_delete_ = true}`` is dropped."""
        nodes = (live(self.fold(None, item, (*path, index))) for index, item in enumerate(raw))
        return tuple(node for node in nodes if node is not None)

    def problem(self, old: Node | None, path: KeyPath, found: str, fix: str = "") -> Node | None:
        """Note a problem and leave what was inherited."""
        self.problems.append(ConfigError(self.layer.origin.at(path), found, fix))
        return old

    def node(self, value: object, raw: object, old: Node | None) -> Node:
        """A node with this value, its history that of ``old`` and this layer's setting."""
        history = old.history if old is not None else ()
        if history and history[-1] == self._removal:  # removed and set again by one file: that is one setting
            history = history[:-1]
        return Node(value, (*history, Setting(raw, self.layer.origin)), self.layer.folder)

    @property
    def _removal(self) -> Setting:
        return Setting({"_delete_": True}, self.layer.origin)

    def _value(self, old: Node | None, value: object, raw: object, path: KeyPath) -> Node | None:
        inherited = live(old)
        if inherited is not None and isinstance(inherited.value, dict):
            what = "a list" if isinstance(value, list) else "a value"
            fix = "To replace it, write `{_delete_ = true, _value_ = ...}`."
            return self.problem(old, path, f"{what} over {_describe(inherited)}", fix)
        return self.node(self.items(value, path) if isinstance(value, list) else value, raw, old)

    def _table(self, old: Node | None, raw: Mapping[str, object], path: KeyPath) -> Node | None:
        wrong = _wrong_marker(raw)
        if wrong is not None:
            return self.problem(old, path, *wrong)
        if "_delete_" in raw:
            old = self._delete(old, path)
            if len(raw) == 1:
                return old
        if "_none_" in raw:
            return self._value(old, None, raw, path)
        if "_value_" in raw:
            return self._replacement(old, raw, path)
        if "_wrap_" in raw:
            return self._wrapped(old, raw, path)
        return self._merge_or_edit(old, raw, path)

    def _delete(self, old: Node | None, path: KeyPath) -> Node | None:
        inherited = live(old)
        if inherited is None:
            self.warnings.append(f"{self.layer.origin.at(path)}: `_delete_` finds nothing to delete")
            return old
        return _bury(inherited, self._removal)

    def _replacement(self, old: Node | None, raw: Mapping[str, object], path: KeyPath) -> Node | None:
        value = raw["_value_"]
        if value == {"_none_": True}:
            value = None
        if isinstance(value, dict):
            return self.problem(old, path, "`_value_` is a table", "Write its keys beside `_delete_ = true` instead.")
        return self._value(old, value, raw, path)

    def _wrapped(self, old: Node | None, raw: Mapping[str, object], path: KeyPath) -> Node | None:
        """What was inherited, as a key of a new table; the other keys of this one are folded over that."""
        inherited = live(old)
        if inherited is None:
            return self.problem(old, path, "`_wrap_` finds nothing to wrap", "Name a `_base_` that has it.")
        return self._merge(attrs.evolve(inherited, value={str(raw["_wrap_"]): inherited}), raw, path)

    def _merge_or_edit(self, old: Node | None, raw: Mapping[str, object], path: KeyPath) -> Node | None:
        inherited = live(old)
        if inherited is not None and isinstance(inherited.value, tuple):
            if "type" not in raw:
                return edit_list(self, inherited, raw, path)
            fix = "To replace the list, add `_delete_ = true`; to edit its items, leave `type` out."
            return self.problem(old, path, f"a table with `type` over {_describe(inherited)}", fix)
        edit = next((key for key in EDITS if key in raw), None)
        if edit is not None:
            there = "nothing is inherited here" if inherited is None else f"here is {_describe(inherited)}"
            return self.problem(old, path, f"`{edit}` edits an inherited list, but {there}")
        if inherited is not None and not isinstance(inherited.value, dict):
            return self.problem(old, path, f"a table over {_describe(inherited)}", _table_over_value(inherited))
        return self._merge(old, raw, path)

    def _merge(self, old: Node | None, raw: Mapping[str, object], path: KeyPath) -> Node:
        children: dict[str, Node] = dict(old.value) if old is not None and isinstance(old.value, dict) else {}
        for key, value in raw.items():
            if key in ("_delete_", "_wrap_"):
                continue
            # A key that was gone takes its place anew, so that the order is the one the file shows.
            before = children.get(key) if live(children.get(key)) else children.pop(key, None)
            node = self.fold(before, value, (*path, key))
            if node is not None:
                children[key] = node
        return self.node(children, raw, old)


def _bury(node: Node, removal: Setting) -> Node:
    """The node as gone, with all that is below it."""
    value = {key: _bury(child, removal) for key, child in node.value.items()} if isinstance(node.value, dict) else ""
    return node if node.gone else Node(value, (*node.history, removal), node.folder, gone=True)


def _wrong_marker(raw: Mapping[str, object]) -> tuple[str, str] | None:
    """What is wrong with the markers of a table, and what would be right."""
    for key in raw:
        if _MARKER.fullmatch(key) and key not in MARKERS:
            return f"{format_key(key)} is no marker", did_you_mean(key, MARKERS) or f"Markers are {', '.join(MARKERS)}."
    if "_base_" in raw:
        return "`_base_` belongs at the top of a file", ""
    for key in ("_delete_", "_none_"):
        if key in raw and raw[key] is not True:
            return f"`{key}` is not true", f"Write `{key} = true`, or leave it out."
    name, beside = raw.get("_wrap_", "a key"), [key for key in raw if key in MARKERS and key != "_wrap_"]
    if not isinstance(name, str) or not name or _MARKER.fullmatch(name) or ("_wrap_" in raw and beside):
        what = f"stands beside `{beside[0]}`" if beside else "is no name of a key"
        return f"`_wrap_` {what}", 'Write `_wrap_ = "dataset"`: what was inherited becomes the key `dataset`.'
    for key, others in (("_none_", {"_delete_"}), ("_value_", {"_delete_"})):
        extra = sorted(raw.keys() - others - {key})
        if key in raw and extra:
            return f"`{key}` stands beside {', '.join(map(format_key, extra))}", "Only `_delete_` may stand beside it."
    if "_value_" in raw and "_delete_" not in raw:
        return "`_value_` without `_delete_`", "Write `{_delete_ = true, _value_ = ...}`, or the value alone."
    return None


def _describe(node: Node) -> str:
    what = "table" if isinstance(node.value, dict) else "list" if isinstance(node.value, tuple) else "value"
    return f"the {what} that {node.history[-1].origin.file} wrote"


def _table_over_value(node: Node) -> str:
    if isinstance(node.value, str) and node.value.startswith("${"):
        return f"{node.value} is resolved after folding: change what it names, or add `_delete_ = true`."
    return "To replace it, add `_delete_ = true`."
