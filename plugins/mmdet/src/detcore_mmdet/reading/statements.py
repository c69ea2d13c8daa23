"""Statements of a config: assignments, deletions, conditions, loops over what is there; imports in new-style files."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from detcore_mmdet.reading.arithmetic import binary
from detcore_mmdet.reading.expressions import ALLOWED, Expressions, bind, refused, unpacked
from detcore_mmdet.reading.functions import items_of
from detcore_mmdet.reading.limits import Refused, short
from detcore_mmdet.reading.values import Name, Table, kind, tables

BASE = "_base_"
READ_BASE = "read_base"


@attrs.frozen
class Inherited:
    """What a new-style config gives to one that imports from it.

    Attributes:
        values: Its names, those that it imported too.
        imported: The names among them that it imported: no keys of the result.
    """

    values: Mapping[str, Any]
    imported: frozenset[str]


@attrs.define
class Program:
    """Carries out the statements of one file, over the names of ``expressions``.

    Args:
        expressions: Work out values.
        inherit: Reads the config that a new-style file imports from, by its module; None: an old-style file.

    Attributes:
        imported: Names that were imported.
        lines: Where each name was given its value last.
    """

    expressions: Expressions
    inherit: Callable[[str], Inherited] | None = None
    imported: set[str] = attrs.field(factory=set, init=False)
    lines: dict[str, int] = attrs.field(factory=dict, init=False)

    def run(self, body: Sequence[ast.stmt]) -> None:
        """Carry out statements, one after the other."""
        for node in body:
            with self.expressions.place.at(node):
                if type(node) not in _HANDLERS:
                    raise refused(node)
                _HANDLERS[type(node)](self, node)

    # -------------------------------------------------------------------------------------------------- assignments

    def _assign(self, node: ast.Assign) -> None:
        first = node.targets[0]
        if self.inherit is None and isinstance(first, ast.Name) and first.id == BASE:
            return  # has been read before everything else
        value = self.expressions.value(node.value)
        for target in node.targets:
            self.store(target, value)

    def _annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.store(node.target, self.expressions.value(node.value))

    def store(self, target: ast.expr, value: Any) -> None:
        """Give a name, a key, an attribute of an inherited table, or a tuple of these, its value."""
        budget = self.expressions.budget
        if isinstance(target, ast.Tuple | ast.List):
            for each, part in zip(target.elts, unpacked(target.elts, value, budget), strict=True):
                self.store(each.value if isinstance(each, ast.Starred) else each, part)
        elif isinstance(target, ast.Subscript):
            self._put(*self.expressions.item(target), value)
        elif isinstance(target, ast.Attribute):
            holder, key = self.expressions.attribute(target)
            self._put(self._inherited(holder, key), key, value)
        else:
            bind(target, value, budget, self.expressions.names)
            if isinstance(target, ast.Name):
                self.lines[target.id] = target.lineno

    def _put(self, holder: Any, key: Any, value: Any) -> None:
        if isinstance(holder, Table):
            holder[key] = tables(value, self.expressions.budget, keep=True)
        elif isinstance(holder, dict | list):
            holder[key] = value
        else:
            raise Refused(f"a value is put into {kind(holder)}", "Tables and lists take values.")

    @staticmethod
    def _inherited(holder: Any, key: str) -> Table:
        if not isinstance(holder, Table):
            found = f"the attribute `{short(key)}` of {kind(holder)} is set or deleted"
            raise Refused(found, f"Write x['{short(key)}']: only inherited tables have attributes.")
        return holder

    def _augmented(self, node: ast.AugAssign) -> None:
        current, more = self.expressions.value(node.target), self.expressions.value(node.value)
        if isinstance(current, list) and isinstance(node.op, ast.Add):
            current += items_of(more, self.expressions.budget)
        else:
            self.store(node.target, binary(type(node.op), current, more, self.expressions.budget))

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._remove(self.expressions.names, target.id)
            elif isinstance(target, ast.Subscript):
                self._remove(*self.expressions.item(target))
            elif isinstance(target, ast.Attribute):
                holder, key = self.expressions.attribute(target)
                self._remove(self._inherited(holder, key), key)
            else:
                raise refused(target)

    def _remove(self, holder: Any, key: Any) -> None:
        if not isinstance(holder, dict | list):
            raise Refused(f"something is deleted from {kind(holder)}", "Tables and lists let go of values.")
        if isinstance(holder, dict) and key not in holder:
            raise Refused(f"there is no {key!r:.80} to delete")
        self.expressions.budget.spend(1 + len(holder) // 64)
        del holder[key]

    # ------------------------------------------------------------------------------------------------------- control

    def _expression(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # what stands for itself is a comment
            self.expressions.value(node.value)

    def _if(self, node: ast.If) -> None:
        self.run(node.body if self.expressions.value(node.test) else node.orelse)

    def _for(self, node: ast.For) -> None:
        for item in items_of(self.expressions.value(node.iter), self.expressions.budget):
            bind(node.target, item, self.expressions.budget, self.expressions.names)
            self.run(node.body)
        self.run(node.orelse)

    def _pass(self, node: ast.Pass) -> None:
        pass

    # ------------------------------------------------------------------------------------------------------- imports

    def _import(self, node: ast.Import) -> None:
        if self.inherit is None:
            raise Refused(f"`{short(node.names[0].name)}` is imported", f"{ALLOWED} Nothing is imported.")
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self._imported(name, Name(alias.name.rpartition(".")[2] if alias.asname else name))

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        if self.inherit is None:
            raise Refused(f"`{short(module)}` is imported from", f"{ALLOWED} Nothing is imported.")
        if node.level:
            self._inherit(node, module)
            return
        for alias in node.names:
            if alias.name == "*":
                raise Refused(f"everything is imported from `{short(module)}`", "Name what is needed.")
            self._imported(alias.asname or alias.name, Name(alias.name))

    def _imported(self, name: str, value: Name) -> None:
        bind(ast.Name(name), value, self.expressions.budget, self.expressions.names)
        self.imported.add(name)

    def _with(self, node: ast.With) -> None:
        if self.inherit is None or not _is_read_base(node):
            raise refused(node)
        for each in node.body:
            with self.expressions.place.at(each):
                if not isinstance(each, ast.ImportFrom):
                    raise Refused(
                        f"{type(each).__name__} within `with {READ_BASE}():` is not read", "Write from .x import *."
                    )
                self._inherit(each, "." * each.level + (each.module or ""))

    def _inherit(self, node: ast.ImportFrom, module: str) -> None:
        assert self.inherit is not None
        found = self.inherit(module)
        names = {alias.asname or alias.name: alias.name for alias in node.names}
        if "*" in names:
            names = {name: name for name in found.values}
        for name, theirs in names.items():
            if theirs not in found.values:
                raise Refused(f"`{short(theirs)}` is not in {short(module)}")
            self.expressions.names[name] = found.values[theirs]
            self.lines[name] = node.lineno
        self.imported |= found.imported


def _is_read_base(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return (
        len(node.items) == 1
        and isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == READ_BASE
        and not call.args
        and not call.keywords
    )


_HANDLERS: dict[type[ast.stmt], Callable[[Any, Any], None]] = {
    ast.AnnAssign: Program._annotated,
    ast.Assign: Program._assign,
    ast.AugAssign: Program._augmented,
    ast.Delete: Program._delete,
    ast.Expr: Program._expression,
    ast.For: Program._for,
    ast.If: Program._if,
    ast.Import: Program._import,
    ast.ImportFrom: Program._import_from,
    ast.Pass: Program._pass,
    ast.With: Program._with,
}
