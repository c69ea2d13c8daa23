"""Table and catalog to objects: the only module that knows both sides.

Two passes. :func:`plan` holds the whole table against the signatures of what it names and reports every problem at
once; nothing is constructed. :meth:`Plan.build` then constructs, and passes on what flows from component to component.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import attrs
from torch import nn

from detcore import signature, weights
from detcore.catalog import Catalog, Component, Namespace
from detcore.config import Config, Table, plain
from detcore.errors import ComponentError, ConfigError, UserError, did_you_mean, one_line, raise_all
from detcore.interfaces import Container, Flow
from detcore.signature import Child, Mismatch, Parameter, Signature, hint_name, shown

_SEVERAL_LEVELS = ("channels", "strides")
_RESERVED = ("type", "weights")
_ALWAYS_READ = ("vars", "plugins")

log = logging.getLogger("detcore.build")


@attrs.frozen(eq=False)
class Node:
    """A table, and what it will become.

    Attributes:
        table: Where it stands in the config.
        call: The class or function that the table names.
        label: ``assigner TinyAssigner (detcore-tiny 0.1.0)``, for messages.
        interface: What the result must implement; None for a section.
        parameters: Of ``call``, those that a config may set.
        values: Plain values of the table, as the hints want them.
        children: Per parameter the nodes that it takes: one, a tuple, a mapping.
        factory: The owner calls it with leading arguments; else it is built here.
    """

    table: Table
    call: Callable[..., Any]
    label: str
    interface: type | None
    parameters: Mapping[str, Parameter]
    values: Mapping[str, Any]
    children: Mapping[str, Any]
    factory: bool = False


# ---------------------------------------------------------------------------------------------------------- planning


def plan(config: Config, catalog: Catalog, root: type, *, load_weights: bool = True) -> Plan:
    """Hold the whole table against the signatures of what it names.

    Args:
        config: The folded config.
        catalog: What is installed.
        root: The section that the whole table is; its parameters are the keys of the top level.
        load_weights: Whether building will load the weights that components name.

    Raises:
        UserError: All problems at once.
    """
    planner = _Planner(config, catalog)
    node = planner.section(config.table, root)
    raise_all(planner.errors)
    return Plan(node, catalog, load_weights, planner.plugins)


class _Planner:
    def __init__(self, config: Config, catalog: Catalog) -> None:
        self.config = config
        self.catalog = catalog
        self.errors: list[UserError] = []
        self.plugins: dict[str, str] = {}

    def section(self, table: Table, cls: type) -> Node:
        label = ".".join(map(str, table.path)) or "the config"
        return self._node(table, cls, label, signature.read(cls, self.catalog.kind_of))

    def component(self, table: Any, child: Child) -> Node | None:
        kind = self.catalog.kind_of(child.interface)
        name, where = table["type"], table.where("type")
        if not isinstance(name, str):
            self._error(where, f"found {shown(name)}, wanted the name of a {kind}")
            return None
        try:
            target = self.catalog.find(str(kind), name, where)
            foreign = isinstance(target.entry.record, Namespace)
            skip = self.catalog.kinds[str(kind)].record.supplies if child.factory else 0
            read = signature.read(target.obj, self.catalog.kind_of, skip=skip, foreign=foreign)
        except UserError as error:
            self.errors.append(error if error.where else type(error)(where, f"{kind} {name}: {error.found}", error.fix))
            return None
        if isinstance(target.entry.record, Component) and target.entry.record.instead:
            log.warning('%s: %s goes away: write "%s"', where, target, target.entry.record.instead)
        self.plugins[target.entry.distribution] = target.entry.version
        return self._node(table, target.obj, str(target), read, child)

    def _node(
        self, table: Table, call: Callable[..., Any], label: str, read: Signature, child: Child | None = None
    ) -> Node:
        values: dict[str, Any] = {}
        children: dict[str, Any] = {}
        for key, value in table.items():
            parameter = read.parameters.get(key)
            if parameter is None and self._is_known(table, key, child, read):
                if read.open and key not in _RESERVED:
                    values[key] = plain(value)
            elif parameter is None:
                self._unknown(table, key, label, read)
            elif parameter.section is not None:
                children[key] = self._section(table, key, parameter.section, parameter.named)
            elif parameter.child is not None:
                children[key] = self._children(table, key, parameter.child)
            elif (
                child and read.foreign and _holds_components(value)
            ):  # v2.RandomApply takes transforms of its own family
                children[key] = self._children(table, key, attrs.evolve(child, shapes=frozenset({"one", "many"})))
            else:
                self._value(table, key, parameter, values)
        for name, parameter in read.parameters.items():
            if parameter.required and name not in table and parameter.flow is None:
                self._missing(table, label, parameter)
        interface = child.interface if child else None
        return Node(table, call, label, interface, read.parameters, values, children, bool(child and child.factory))

    def _is_known(self, table: Table, key: str, child: Child | None, read: Signature) -> bool:
        if child is not None:
            return read.open or key in _RESERVED
        return not table.path and (key in _ALWAYS_READ or (key,) in self.config.read)

    def _section(self, table: Table, key: str, cls: type, named: bool) -> Any:
        value = table[key]
        if isinstance(value, Table) and named:
            return {name: self._section(value, name, cls, False) for name in value}
        if isinstance(value, Table):
            return self.section(value, cls)
        if value is not None:
            self._error(table.where(key), f"found {shown(value)}, wanted a table")
        return None

    def _children(self, table: Table, key: str, child: Child) -> Any:
        value, where = table[key], table.where(key)
        if value is None and "none" in child.shapes:
            return None
        if isinstance(value, Table) and "type" in value and "one" in child.shapes:
            return self.component(value, child)
        if isinstance(value, tuple) and "many" in child.shapes and all(map(_is_component, value)):
            return tuple(self.component(item, child) for item in value)
        if isinstance(value, Table) and "named" in child.shapes and all(map(_is_component, value.values())):
            return {name: self.component(item, child) for name, item in value.items()}
        self._error(where, *self._wrong_shape(value, child))
        return None

    def _wrong_shape(self, value: object, child: Child) -> tuple[str, str]:
        kind = self.catalog.kind_of(child.interface)
        wanted = {
            "one": f"a table with the `type` of a {kind}",
            "many": f"a list of {kind} tables, each with its `type`",
            "named": f"a table of named {kind} tables, each with its `type`",
            "none": "{_none_ = true}",
        }
        found = "a table without `type`" if isinstance(value, Table) else shown(plain(value))
        shapes = " or ".join(text for shape, text in wanted.items() if shape in child.shapes)
        fix = f'Write {{type = "{value}"}}.' if isinstance(value, str) else ""
        return f"found {found}, wanted {shapes}", fix

    def _value(self, table: Table, key: str, parameter: Parameter, values: dict[str, Any]) -> None:
        try:
            values[key] = signature.convert(plain(table[key]), parameter.hint)
        except Mismatch as mismatch:
            for below, problem in mismatch.problems:
                self._error("".join([table.where(key), *(f".{part}" for part in below)]), problem)

    def _unknown(self, table: Table, key: str, label: str, read: Signature) -> None:
        takes = ", ".join(read.parameters) or "nothing"
        what = "not a key of" if "type" not in table else "not a parameter of"
        hints = [did_you_mean(key, read.parameters), self._leftover(table, key), f"It takes: {takes}."]
        self._error(table.where(key), f"{what} {label}", " ".join(hint for hint in hints if hint))

    def _leftover(self, table: Table, key: str) -> str:
        """Why a key is there that belongs to an inherited ``type``."""
        types = self.config.history((*table.path, "type"))
        if len(types) < 2 or table.origin(key) == types[-1].origin:
            return ""
        return (
            f"It comes from {table.origin(key).file}, written for {shown(types[-2].value)}; "
            f"add `_delete_ = true` where {types[-1].origin.file} sets the type, to drop what was inherited."
        )

    def _missing(self, table: Table, label: str, parameter: Parameter) -> None:
        wanted = parameter.section or (parameter.child and parameter.child.interface) or parameter.hint
        near = next((key for key in table if did_you_mean(key, [parameter.name]) and key != "type"), "")
        given = f" (near: {near})" if near and near not in _RESERVED else ""
        self._error(table.where(), f'"{parameter.name}" of {label} is missing{given}', f"It takes {hint_name(wanted)}.")

    def _error(self, where: str, found: str, fix: str = "") -> None:
        self.errors.append(ConfigError(where, found, fix))


def _is_component(value: object) -> bool:
    return isinstance(value, Table) and "type" in value


def _holds_components(value: object) -> bool:
    return _is_component(value) or (isinstance(value, tuple) and bool(value) and all(map(_is_component, value)))


# ---------------------------------------------------------------------------------------------------------- building


class Plan:
    """A config that fits what is installed; builds its keys, each when asked.

    Args:
        root: The node of the whole table.
        catalog: Where weight sources are looked up.
        load_weights: Whether ``weights`` keys are obeyed; else components stay as they are initialised.
        plugins: Versions of the distributions that have a component of it.
    """

    def __init__(
        self, root: Node, catalog: Catalog, load_weights: bool = True, plugins: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.root = root
        self.plugins = plugins
        self.reports: list[str] = []
        """What became of every ``weights`` key that was met so far, a line each."""
        self._catalog = catalog
        self._load_weights = load_weights
        self._labels: dict[int, tuple[object, str]] = {}  # the object is held so that its id stays its own

    def __contains__(self, key: str) -> bool:
        return self.root.children.get(key) is not None or key in self.root.values

    def build(self, key: str, flow: Flow | None = None) -> Any:
        """What ``key`` (``model``, or ``val.transforms`` of a section alone) becomes.

        Its default where the config says nothing of it; None where its section is not there.

        Raises:
            UserError: A constructor refuses its values, or flowing values contradict the config's.
        """
        node, (*sections, name) = self.root, key.split(".")
        for section in sections:
            if node.children.get(section) is None:
                return None
            node = node.children[section]
        parameter = node.parameters[name]
        if name in node.values:
            return node.values[name]
        if node.children.get(name) is None:
            return None if parameter.required else parameter.default
        return self._child(node, name, {}, flow or Flow())

    def _build(self, node: Node, flow: Flow) -> Any:
        values = dict(node.values)
        for parameter in node.parameters.values():
            if parameter.flow is not None:
                self._fill(node, parameter, flow, values)
        defaults = {name: each.default for name, each in node.parameters.items() if not each.required}
        for name in node.parameters:
            if name in node.children:
                values[name] = self._child(node, name, {**defaults, **values}, flow)
        if node.factory:
            return functools.partial(_call, node, **values)
        return self._checked(node, _call(node, **values))

    def _child(self, node: Node, name: str, known: Mapping[str, Any], flow: Flow) -> Any:
        child = node.children[name]
        container = node.call if isinstance(node.call, type) and issubclass(node.call, Container) else Container
        if isinstance(child, Node):
            return self._build(child, container.flow_to(name, known, flow))
        if isinstance(child, tuple):
            row: list[Any] = []
            for item in child:
                row.append(self._build(item, container.flow_to(name, {**known, name: row}, flow)))
            return row
        if isinstance(child, Mapping):
            given = {key: item for key, item in child.items() if item is not None}
            return {key: self._build(item, container.flow_to(name, known, flow)) for key, item in given.items()}
        return None

    def _fill(self, node: Node, parameter: Parameter, flow: Flow, values: dict[str, Any]) -> None:
        """Order: the config's value, checked against the flow; the flow; the default; an error."""
        name = parameter.name
        try:
            value = flowing(parameter, flow)
        except ConfigError as error:
            raise ConfigError(node.table.where(name), f"{error.found} {self._source(parameter, flow)}") from None
        if name not in values:
            if value is not None:
                values[name] = value
            elif parameter.required:
                wanted = f"{name} ({str(parameter.flow).replace('_', ' ')})"
                raise ConfigError(node.table.where(), f"nothing before {node.label} gives its {wanted}", "Write it.")
        elif value is not None and plain(values[name]) != plain(value) and values[name] is not None:
            given = f"{shown(values[name])} given to {node.label}"
            found = f"{given}, but {self._source(parameter, flow)} gives {shown(value)}"
            raise ConfigError(node.table.where(name), found, "Remove the key: the build fills it.")

    def _source(self, parameter: Parameter, flow: Flow) -> str:
        source = flow.sources.get(str(parameter.flow))
        if isinstance(source, str):
            return source
        known = self._labels.get(id(source))
        return known[1] if known else "what comes before"

    def _checked(self, node: Node, built: Any) -> Any:
        self._labels[id(built)] = (built, f"{node.label} ({node.table.where()})")
        if node.interface is not None:
            problem = broken_promise(built, node.interface)
            if problem:
                raise ComponentError(node.table.where(), f"{node.label} {problem}")
        if self._load_weights and "weights" in node.table and "weights" not in node.parameters:
            self._load(node, built)
        return built

    def _load(self, node: Node, built: Any) -> None:
        where = node.table.where("weights")
        if not isinstance(built, nn.Module):
            raise ConfigError(where, f"{node.label} has no weights")
        report = weights.load(built, plain(node.table["weights"]), where, self._catalog)
        self.reports.append(f"weights of {node.label}: {report}")


def flowing(parameter: Parameter, flow: Flow) -> Any:
    """The value of ``flow`` that a marked parameter wants; None where it is not known.

    Raises:
        ConfigError: One value for all levels is wanted, and they differ; ``where`` is left empty.
    """
    value = getattr(flow, str(parameter.flow))
    if value is None or parameter.flow not in _SEVERAL_LEVELS:
        return value
    if int not in signature.members(parameter.hint):
        return tuple(value)
    if len(set(value)) != 1:
        raise ConfigError("", f"takes the one value that all levels share, but gets {shown(list(value))} from")
    return value[0]


def _call(node: Node, /, *args: Any, **values: Any) -> Any:
    """Construct; whatever goes wrong is said with the table's address."""
    try:
        return node.call(*args, **values)
    except Exception as error:
        if isinstance(error, UserError) and error.located:  # by a factory that the constructor called
            raise
        said = _said_of(node, error)
        said.located = True  # an owner whose constructor it passes through adds nothing
        raise said from error


def _said_of(node: Node, error: Exception) -> UserError:
    where = node.table.where()
    if isinstance(error, UserError):
        name, _, key = error.where.partition(": ")
        own = key if name == getattr(node.call, "__name__", "") else error.where  # the label names it already
        label = node.label if node.interface else ""  # a section is its address
        return type(error)(where, ": ".join(filter(None, (label, own, error.found))), error.fix)
    if isinstance(error, ValueError):  # the field's way of refusing a value
        return ConfigError(where, f"{node.label}: {' '.join(str(error).split())}")
    return ComponentError(where, f"{node.label} raised {one_line(error)}")


def broken_promise(built: Any, interface: type) -> str:
    """What keeps ``built`` from being an ``interface``, or the empty string."""
    # An interface without abstract methods (norms, activations) only names a kind: what it derives from must hold.
    named_only = not inspect.isabstract(interface) and not getattr(interface, "_is_protocol", False)
    wanted = interface.__mro__[1] if named_only and issubclass(interface, nn.Module) else interface
    if not isinstance(built, wanted):
        return f"is a {type(built).__name__}, not a {interface.__name__}"
    declared = [name for name in vars(interface).get("__annotations__", {}) if not hasattr(built, name)]
    return f"does not declare {', '.join(declared)}, as a {interface.__name__} must" if declared else ""
