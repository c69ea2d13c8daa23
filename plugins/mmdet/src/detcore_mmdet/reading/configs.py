"""A config of MMDetection with all that it inherits, as plain values."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import attrs
from detcore.errors import ConfigError

from detcore_mmdet.reading.expressions import Expressions, Place
from detcore_mmdet.reading.files import base_file, is_lazy, module_file, parsed, text_of
from detcore_mmdet.reading.limits import CHAIN, Budget, Refused, short, where
from detcore_mmdet.reading.merging import Unmergeable, merged
from detcore_mmdet.reading.statements import BASE, Inherited, Program
from detcore_mmdet.reading.templates import Templates
from detcore_mmdet.reading.values import Table, kind, plain, tables

DEPRECATION = "_deprecation_"
_FILE = 1000
"""Steps that opening a file costs."""


def read_config(path: Path, *, roots: Sequence[Path] = ()) -> dict[str, Any]:
    """A config of MMDetection, 2.x or 3.x, with all that it inherits, worked out as MMEngine does it.

    The file is read and never executed: nothing of it is compiled, imported or called. A class that a new-style config
    imports is its name. The note of its package that MMEngine leaves in what comes from ``mmdet::...`` (``_scope_``)
    and markers ``_delete_`` that had nothing to delete are left out.

    Args:
        path: The config, ``.py`` or ``.json``.
        roots: Folders of MMDetection's configs, for ``mmdet::faster_rcnn/...``; else those of the installed mmdet.

    Returns:
        The keys of the config: dicts, lists, tuples, strings, numbers, booleans and None.

    Raises:
        ConfigError: It cannot be read, or holds what is not understood; with file and line.
    """
    file = Path(os.path.abspath(os.path.expanduser(path)))
    reader = _Reader(tuple(roots))
    try:
        return dict(plain(reader.top(file), reader.budget))
    except Refused as error:
        raise ConfigError(where(file), error.found, error.fix) from None
    except RecursionError:
        raise ConfigError(where(file), "nested too deeply to be read") from None


@attrs.define
class _Reader:
    """Reads one config and what it inherits.

    Args:
        roots: Folders of MMDetection's configs.

    Attributes:
        budget: Pays for all of it.
        chain: The files that are being read, each for the one before it.
    """

    roots: Sequence[Path]
    budget: Budget = attrs.field(factory=Budget, init=False)
    chain: list[Path] = attrs.field(factory=list, init=False)

    def top(self, file: Path) -> dict[str, Any]:
        """The keys of the config that was asked for."""
        text = self._open(file)
        if file.suffix == ".json":
            return self._json(file, text)
        tree = parsed(text, file)
        if not is_lazy(tree):
            return self._python(file, tree)
        found = self._lazy(file, tree)
        return {key: value for key, value in _keys(found.values).items() if key not in found.imported}

    # ------------------------------------------------------------------------------------------------- the file formats

    def _lazy(self, file: Path, tree: ast.Module) -> Inherited:
        """The names of a new-style config."""
        modules: dict[str, Inherited] = {}  # one that is imported from twice is the same one

        def inherit(module: str) -> Inherited:
            if module not in modules:
                modules[module] = self._module(module, file)
            return modules[module]

        program = Program(Expressions(Place(file, self.budget)), inherit)
        program.run(sorted(tree.body, key=lambda node: not isinstance(node, ast.With)))  # what is inherited comes first
        return Inherited(program.expressions.names, frozenset(program.imported))

    def _python(self, file: Path, tree: ast.Module) -> dict[str, Any]:
        """The keys of an old-style config: what stands in it, over what ``_base_`` names."""
        place, base = Place(file, self.budget), Table()
        for node in filter(_is_base, tree.body):
            with place.at(node):
                base = self._bases(Expressions(place).value(node.value), file)
            break
        expressions = Expressions(place, {BASE: base}, Templates(file, base, self.budget))
        program = Program(expressions)
        program.run(tree.body)
        return self._over(expressions.names, base, file, program.lines)

    def _json(self, file: Path, text: str) -> dict[str, Any]:
        line = text.count("\n", 0, max(0, text.find(f'"{BASE}"'))) + 1
        with Place(file, self.budget).at(ast.Pass(lineno=line)):
            bare = _loaded(Templates(file, {}, self.budget).json(text), file)
            self.budget.weigh(bare)
            base = self._bases(bare.pop(BASE, []), file)
            values = _expanded(bare, Templates(file, base, self.budget))
        return self._over(values, base, file, {})

    def _over(self, names: Mapping[str, Any], base: Table, file: Path, lines: Mapping[str, int]) -> dict[str, Any]:
        try:
            return _keys(merged(_keys(names), base, self.budget))
        except Unmergeable as error:
            line = lines.get(str(error.path[0]))
            raise ConfigError(where(file, line), error.found, error.fix) from None
        except Refused as error:
            raise ConfigError(where(file), error.found, error.fix) from None

    # --------------------------------------------------------------------------------------------- what is inherited

    def _bases(self, entries: Any, file: Path) -> Table:
        """The keys of all configs that ``_base_`` names, of which no two have the same."""
        inherited, homes = Table(), dict[str, str]()
        for name in entries if isinstance(entries, list | tuple) else [entries]:
            if not isinstance(name, str):
                raise Refused(f"`{BASE}` holds {kind(name)}", "It is the path of a config, or a list of them.")
            values = self._base(base_file(name, file, self.roots), file)
            for key in values:
                if key in homes:
                    found = f"`{short(key)}` is inherited from '{homes[key]}' and from '{short(name)}'"
                    raise Refused(found, "Keep it in one.")
                homes[key] = short(name)
            inherited.update(values)
        return inherited

    def _base(self, base: Path, file: Path) -> Table:
        self._enter(base, file)
        text = self._open(base)
        if base.suffix == ".json":
            values = self._json(base, text)
        else:
            tree = parsed(text, base)
            if is_lazy(tree):
                raise Refused(
                    f"it inherits by `{BASE}` from a new-style config, {where(base)}", "Write both in one style."
                )
            values = self._python(base, tree)
        self.chain.pop()
        inherited: Table = tables(values, self.budget)
        return inherited

    def _module(self, module: str, file: Path) -> Inherited:
        base = module_file(module, file, self.roots)
        self._enter(base, file)
        found = self._lazy(base, parsed(self._open(base), base))
        self.chain.pop()
        return Inherited(tables(_keys(found.values), self.budget), found.imported)

    def _enter(self, base: Path, file: Path) -> None:
        files = [*self.chain, file]
        if base in files:
            cycle = " -> ".join(map(where, [*files[files.index(base) :], base]))
            raise Refused(f"it inherits from itself: {cycle}", "Take one of them out.")
        if len(files) > CHAIN:
            raise Refused(f"more than {CHAIN} configs inherit one from the other")
        self.chain.append(file)

    def _open(self, file: Path) -> str:
        text = text_of(file)
        self.budget.spend(_FILE + len(text) // 2)
        return text


def _is_base(node: ast.stmt) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == BASE


def _keys(names: Mapping[str, Any]) -> dict[str, Any]:
    """The names that are keys of the result; one underscore does not hide a name."""
    hidden = (BASE, DEPRECATION)
    if wrong := [key for key in names if not isinstance(key, str)]:
        raise Refused(f"the key {wrong[0]!r:.80} of the config is no text")
    return {key: value for key, value in names.items() if key not in hidden and not key.startswith("__")}


def _loaded(text: str, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(where(file, error.lineno), f"not JSON: {error.msg}") from None
    if not isinstance(found, dict):
        raise ConfigError(where(file, 1), f"a config is a table, found {kind(found)}")
    return found


def _expanded(value: Any, templates: Templates) -> Any:
    """The value with its double braces replaced."""
    if isinstance(value, dict):
        return {key: _expanded(each, templates) for key, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each, templates) for each in value]
    return templates.expand(value) if isinstance(value, str) else value
