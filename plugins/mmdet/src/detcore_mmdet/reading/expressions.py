"""Expressions of a config, worked out node by node: nothing is compiled, nothing of the config is called."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from detcore.errors import ConfigError, one_line

from detcore_mmdet.reading.arithmetic import binary, compare, unary
from detcore_mmdet.reading.formatting import formatted
from detcore_mmdet.reading.functions import FUNCTIONS, items_of
from detcore_mmdet.reading.limits import DEPTH, Budget, Refused, near, short, where, whole
from detcore_mmdet.reading.methods import method
from detcore_mmdet.reading.templates import Templates
from detcore_mmdet.reading.values import Name, Table, kind

ALLOWED = (
    "A config is read, never run: values, tables, arithmetic, conditions, comprehensions and the methods of tables,"
    " lists and strings are understood."
)
FAILURES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What working something out may end in: Python's own complaints, and :class:`Refused` among them."""
_WHAT = {
    "AsyncFunctionDef": "a function",
    "Await": "await",
    "ClassDef": "a class",
    "FunctionDef": "a function",
    "Global": "global",
    "Import": "an import",
    "ImportFrom": "an import",
    "Lambda": "a lambda",
    "NamedExpr": "an assignment within an expression",
    "Try": "try",
    "While": "a while loop",
    "With": "with",
    "Yield": "yield",
}


@attrs.define
class Place:
    """A file, how deep in it we are, and what reading it may still cost.

    Args:
        file: The file.
        budget: Shared by a config and all that it inherits.
    """

    file: Path
    budget: Budget
    depth: int = 0

    @contextmanager
    def at(self, node: ast.stmt | ast.expr) -> Iterator[None]:
        """Give what goes wrong within a node its line: :class:`Refused` and Python's own complaints."""
        try:
            self.enter()
            yield
        except FAILURES as error:
            raise self.failed(node, error) from None
        finally:
            self.depth -= 1

    def enter(self) -> None:
        """One level deeper; leaving it again is up to the caller."""
        self.depth += 1
        self.budget.spend()
        if self.depth > DEPTH:
            raise Refused(f"nested more than {DEPTH} levels deep")

    def failed(self, node: ast.stmt | ast.expr, error: Exception) -> ConfigError:
        """What went wrong at a node, with its line."""
        if isinstance(error, Refused):
            return ConfigError(where(self.file, node.lineno), error.found, error.fix)
        return ConfigError(where(self.file, node.lineno), f"this cannot be worked out ({short(one_line(error))})")


def refused(node: ast.AST) -> Refused:
    """What a node is that no config has."""
    word = type(node).__name__
    return Refused(f"{_WHAT.get(word, word)} is not read", ALLOWED)


@attrs.define
class Expressions:
    """Works out expressions over the names of one file.

    Args:
        place: The file.
        names: Its names so far; assignments change it.
        templates: What double braces stand for; None where they mean nothing.
    """

    place: Place
    names: dict[str, Any] = attrs.field(factory=dict)
    templates: Templates | None = None
    _loops: list[dict[str, Any]] = attrs.field(factory=list, init=False)

    @property
    def budget(self) -> Budget:
        """Pays for everything."""
        return self.place.budget

    def value(self, node: ast.expr) -> Any:
        """What an expression is."""
        try:  # as Place.at does, which takes as long again for a thing that is done so often
            self.place.enter()
            if type(node) not in _HANDLERS:
                raise refused(node)
            return _HANDLERS[type(node)](self, node)
        except FAILURES as error:
            raise self.place.failed(node, error) from None
        finally:
            self.place.depth -= 1

    def attribute(self, node: ast.Attribute) -> tuple[Any, str]:
        """What ``x.key`` reads from, and the key; for reading, assigning and deleting."""
        if node.attr.startswith("__"):
            raise Refused(f"the attribute `{short(node.attr)}` is not read", ALLOWED)
        return self.value(node.value), node.attr

    def item(self, node: ast.Subscript) -> tuple[Any, Any]:
        """What ``x[key]`` reads from, and the key."""
        holder, key = self.value(node.value), self.value(node.slice)
        self.budget.weigh(key)
        return holder, key

    def elements(self, nodes: Sequence[ast.expr]) -> list[Any]:
        """The elements of a display or the arguments of a call, ``*x`` among them."""
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += items_of(self.value(node.value), self.budget)
            else:
                found.append(self.value(node))
        return found

    # ------------------------------------------------------------------------------------------------------- values

    def _constant(self, node: ast.Constant) -> Any:
        value = node.value
        if isinstance(value, str):
            return self.templates.expand(value) if self.templates else value
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return whole(value)
        raise Refused(f"the value {value!r:.40} is not read", "Text, numbers, True, False and None are.")

    def _list(self, node: ast.List) -> list[Any]:
        return self.elements(node.elts)

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.elements(node.elts))

    def _set(self, node: ast.Set) -> Any:
        inner = node.elts[0]
        if self.templates and len(node.elts) == 1 and isinstance(inner, ast.Set) and len(inner.elts) == 1:
            return self._braces(inner.elts[0], self.templates)
        elements = self.elements(node.elts)
        self.budget.weigh(elements)
        return set(elements)

    def _braces(self, node: ast.expr, templates: Templates) -> Any:
        """``{{_base_.key}}`` and ``{{'$NAME:default'}}`` without quotes around them."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = templates.variable(node.value)
            try:
                tree = ast.parse(text, mode="eval")
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                raise Refused(f"the variable holds {text[:40]!r}, which is no value") from None
            for each in ast.walk(tree):
                ast.copy_location(each, node)
            return self.value(tree.body)
        keys: list[str] = []
        while isinstance(node, ast.Attribute):
            keys.insert(0, node.attr)
            node = node.value
        if not keys or not isinstance(node, ast.Name) or node.id != "_base_":
            raise Refused("what stands in {{ }} is not understood", "Write {{_base_.key}} or {{'$NAME:default'}}.")
        return templates.inherited(keys)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            if key_node is None:
                made.update(self._mapping(value_node))
                continue
            key = self.value(key_node)
            self.budget.weigh(key)
            made[key] = self.value(value_node)
        return made

    def _mapping(self, node: ast.expr) -> dict[Any, Any]:
        value = self.value(node)
        if not isinstance(value, dict):
            raise Refused(f"** takes a table, found {kind(value)}")
        self.budget.spend(len(value))
        return value

    def _joined(self, node: ast.JoinedStr) -> str:
        parts: list[str] = []
        for each in node.values:
            text = str(each.value) if isinstance(each, ast.Constant) else self.value(each)
            self.budget.text(len(text))
            parts.append(text)
        self.budget.text(sum(map(len, parts)))
        return "".join(parts)

    def _formatted(self, node: ast.FormattedValue) -> str:
        spec = self.value(node.format_spec) if node.format_spec else ""
        conversion = chr(node.conversion) if node.conversion >= 0 else ""
        return formatted(self.value(node.value), spec, conversion, self.budget)

    # ---------------------------------------------------------------------------------------------------- operators

    def _binary(self, node: ast.BinOp) -> Any:
        return binary(type(node.op), self.value(node.left), self.value(node.right), self.budget)

    def _unary(self, node: ast.UnaryOp) -> Any:
        return unary(type(node.op), self.value(node.operand))

    def _boolean(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for each in node.values:
            value = self.value(each)
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    def _compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for operation, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node)
            if not compare(type(operation), left, right, self.budget):
                return False
            left = right
        return True

    def _condition(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    # ------------------------------------------------------------------------------------------------ names and keys

    def _name(self, node: ast.Name) -> Any:
        for names in (*reversed(self._loops), self.names):
            if node.id in names:
                return names[node.id]
        if node.id in FUNCTIONS:
            raise Refused(f"the function `{short(node.id)}` is no value", f"Call it, or write '{short(node.id)}'.")
        raise Refused(f"the name `{short(node.id)}` is not defined", near(node.id, self.names))

    def _attribute(self, node: ast.Attribute) -> Any:
        holder, key = self.attribute(node)
        if isinstance(holder, Name):
            return Name(key)
        if isinstance(holder, Table) and key in holder:
            return holder[key]
        if isinstance(holder, Table):
            raise Refused(f"there is no key `{short(key)}` in what is inherited", near(key, holder))
        fix = (
            f"Write x['{short(key)}']: only inherited tables have attributes." if isinstance(holder, dict) else ALLOWED
        )
        raise Refused(f"the attribute `{short(key)}` of {kind(holder)} is not read", fix)

    def _subscript(self, node: ast.Subscript) -> Any:
        if isinstance(node.slice, ast.Slice):
            return self._slice(self.value(node.value), node.slice)
        holder, key = self.item(node)
        if isinstance(holder, dict) and key not in holder:
            raise Refused(f"there is no key {key!r:.80}", near(key, holder))
        if not isinstance(holder, dict | list | tuple | str):
            raise Refused(f"{kind(holder)} has no [{key!r:.80}]")
        return holder[key]

    def _slice(self, holder: Any, node: ast.Slice) -> Any:
        if not isinstance(holder, list | tuple | str):
            raise Refused(f"{kind(holder)} has no parts")
        bounds = [None if each is None else self.value(each) for each in (node.lower, node.upper, node.step)]
        self.budget.spend(1 + len(holder))
        return holder[slice(*bounds)]

    # -------------------------------------------------------------------------------------------------------- calls

    def _call(self, node: ast.Call) -> Any:
        function = self._function(node.func)
        return function(*self.elements(node.args), **self._named(node.keywords))

    def _function(self, node: ast.expr) -> Callable[..., Any]:
        if isinstance(node, ast.Name):
            known = FUNCTIONS.get(node.id)
            if known is None or node.id in self.names:
                raise Refused(f"`{short(node.id)}(...)` is called", f"{ALLOWED} Functions are {', '.join(FUNCTIONS)}.")
            return lambda *args, **named: known(self.budget, *args, **named)
        if not isinstance(node, ast.Attribute):
            raise Refused("something without a name is called", ALLOWED)
        receiver, name = self.attribute(node)
        if isinstance(receiver, Name):
            raise Refused(f"`{short(receiver)}.{short(name)}(...)` is called", ALLOWED)
        call = method(receiver, name)
        return lambda *args, **named: call(receiver, self.budget, *args, **named)

    def _named(self, nodes: list[ast.keyword]) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for node in nodes:
            given = self._mapping(node.value) if node.arg is None else {node.arg: self.value(node.value)}
            if twice := [key for key in given if key in named]:
                raise Refused(f"the key {twice[0]!r:.80} is given twice")
            if wrong := [key for key in given if not isinstance(key, str)]:
                raise Refused(f"** takes keys that are text, found {wrong[0]!r:.80}")
            named |= given
        return named

    # ----------------------------------------------------------------------------------------------- comprehensions

    def _list_comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
        return [self.value(node.elt) for _ in self._rounds(node.generators)]

    def _set_comprehension(self, node: ast.SetComp) -> set[Any]:
        elements = [self.value(node.elt) for _ in self._rounds(node.generators)]
        self.budget.weigh(elements)
        return set(elements)

    def _dict_comprehension(self, node: ast.DictComp) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for _ in self._rounds(node.generators):
            key = self.value(node.key)
            self.budget.weigh(key)
            made[key] = self.value(node.value)
        return made

    def _rounds(self, generators: list[ast.comprehension]) -> Iterator[None]:
        """One round after the other of ``for ... in ... if ...``, with the loops' own names."""
        if not generators:
            yield
            return
        first, *rest = generators
        items = items_of(self.value(first.iter), self.budget)
        self._loops.append({})
        scope = self._loops[-1]
        try:
            for item in items:
                self.budget.spend()
                bind(first.target, item, self.budget, scope)
                if all(self.value(test) for test in first.ifs):
                    yield from self._rounds(rest)
        finally:
            self._loops.pop()


def bind(target: ast.expr, value: Any, budget: Budget, names: dict[str, Any]) -> None:
    """Give the names of a target, one or a tuple of them, their values."""
    if isinstance(target, ast.Name):
        if target.id == "_base_":
            raise Refused(f"a value is given to `{short(target.id)}`", "Choose another name.")
        names[target.id] = value
        return
    if not isinstance(target, ast.Tuple | ast.List):
        raise Refused("a loop runs over something else than names")
    for each, part in zip(target.elts, unpacked(target.elts, value, budget), strict=True):
        bind(each.value if isinstance(each, ast.Starred) else each, part, budget, names)


def unpacked(targets: list[ast.expr], value: Any, budget: Budget) -> list[Any]:
    """A value's elements for as many targets, of which one may be starred."""
    items = items_of(value, budget)
    stars = [index for index, each in enumerate(targets) if isinstance(each, ast.Starred)]
    if len(stars) > 1:
        raise Refused("two starred names in one assignment")
    if stars and len(items) >= len(targets) - 1:
        end = len(items) - (len(targets) - 1 - stars[0])
        items = [*items[: stars[0]], items[stars[0] : end], *items[end:]]
    if len(items) != len(targets):
        raise Refused(f"{len(items)} values for {len(targets)} names")
    return items


_HANDLERS: dict[type[ast.expr], Callable[[Any, Any], Any]] = {
    ast.Attribute: Expressions._attribute,
    ast.BinOp: Expressions._binary,
    ast.BoolOp: Expressions._boolean,
    ast.Call: Expressions._call,
    ast.Compare: Expressions._compare,
    ast.Constant: Expressions._constant,
    ast.Dict: Expressions._dict,
    ast.DictComp: Expressions._dict_comprehension,
    ast.FormattedValue: Expressions._formatted,
    ast.GeneratorExp: Expressions._list_comprehension,
    ast.IfExp: Expressions._condition,
    ast.JoinedStr: Expressions._joined,
    ast.List: Expressions._list,
    ast.ListComp: Expressions._list_comprehension,
    ast.Name: Expressions._name,
    ast.Set: Expressions._set,
    ast.SetComp: Expressions._set_comprehension,
    ast.Subscript: Expressions._subscript,
    ast.Tuple: Expressions._tuple,
    ast.UnaryOp: Expressions._unary,
}
