"""References: ``${data_root}``, ``${env:NAME:default}``, ``${here}``. Resolved once, after folding."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import attrs

from detcore.config.dump import spell
from detcore.config.paths import MAX_DEPTH, KeyPath, format_path, scan_path
from detcore.config.table import Node, Table
from detcore.errors import ConfigError, UserError, did_you_mean, raise_all

_TOKEN = re.compile(
    r"""(?P<literal> \$\$\{ )
      | \$\{ (?P<name> env:[^}]* | (?: "(?:[^"\\]|\\.)*" | '[^']*' | [^}"'] )* ) \}
      | (?P<open> \$\{ )""",
    re.VERBOSE | re.DOTALL,
)
Sites = tuple[KeyPath, ...]
Found = tuple[Node, KeyPath, KeyPath]  # a node, where it is written, and where the reference says it is


@attrs.frozen
class _Reference:
    name: str


@attrs.frozen
class Resolver:
    """Turns a folded tree into a Table; what cannot be resolved goes to ``problems``.

    Args:
        root: The folded tree.
        unknown: What would be right where a name is unknown; without it, the nearest key.
    """

    root: Node
    unknown: str = ""
    problems: list[UserError] = attrs.field(factory=list)
    read: set[KeyPath] = attrs.field(factory=set)
    copies: dict[KeyPath, KeyPath] = attrs.field(factory=dict)  # key that is exactly a reference -> what it names

    def resolve(self) -> Table:
        """The whole tree, resolved; raises all ``problems`` at once."""
        table = self._table(self.root, (), (), ())
        raise_all(self.problems)
        return table

    # `path` is where a value ends up, `home` where it is written; `sites` are the references on the way here.
    def _value(self, node: Node, path: KeyPath, home: KeyPath, sites: Sites) -> object:
        if len(path) > MAX_DEPTH:
            raise _error(node, home, f"references nest tables more than {MAX_DEPTH} levels deep")
        if isinstance(node.value, dict):
            return self._table(node, path, home, sites)
        if isinstance(node.value, tuple):
            items = enumerate(node.value)
            return tuple(self._value(item, (*path, index), (*home, index), sites) for index, item in items)
        if not isinstance(node.value, str):
            return node.value
        try:
            value = self._string(node, node.value, path, home, sites)
        except ConfigError as error:
            if sites:  # belongs to the reference that led here
                raise
            self.problems.append(error)
            return ""
        return _absolute(node, value) if path[:2] == ("plugins", "local") and len(path) == 3 else value

    def _table(self, node: Node, path: KeyPath, home: KeyPath, sites: Sites) -> Table:
        assert isinstance(node.value, dict)
        children: dict[str, Node] = {key: child for key, child in node.value.items() if not child.gone}
        values = {k: self._value(child, (*path, k), (*home, k), sites) for k, child in children.items()}
        origins = {key: child.origin for key, child in children.items()}
        return Table(path=path, items=values, origins=origins, origin=node.origin, home=home)

    def _string(self, node: Node, text: str, path: KeyPath, home: KeyPath, sites: Sites) -> object:
        if home in sites:
            raise self._cycle(sites, home)
        if len(sites) >= MAX_DEPTH:
            raise _error(node, home, f"more than {MAX_DEPTH} references lead from one to the next")
        try:
            parts = _split(text)
        except ValueError as error:
            raise _error(node, home, str(error), "A literal `${` is written `$${`.") from None
        sites = (*sites, home)
        values = [self._part(part, node, path, home, sites) for part in parts]
        if len(parts) == 1:
            return values[0]
        for part, value in zip(parts, values, strict=True):
            if value is None or isinstance(value, Table | tuple):
                what = "a table" if isinstance(value, Table) else "none" if value is None else "a list"
                fix = "Only text, numbers, booleans and dates can stand within a longer string."
                raise _error(node, home, f"`${{{getattr(part, 'name', part)}}}` is {what}", fix)
        return "".join(value if isinstance(value, str) else spell(value) for value in values)

    def _part(self, part: str | _Reference, node: Node, path: KeyPath, home: KeyPath, sites: Sites) -> object:
        if isinstance(part, str):
            return _utf8(node, home, "the string", part)
        if part.name == "here":
            return _utf8(node, home, "`${here}`", node.folder)
        if part.name.startswith("env:"):
            return _environment(node, home, part.name)
        target, at, spelled = self._find(part.name, node, home, ())
        for key in (at, spelled):
            self.read.update(key[:end] for end in range(1, len(key) + 1))
        self.read.update(target.walk(at))
        self.copies[home] = at
        return self._value(target, path, at, sites)

    def _find(self, name: str, node: Node, home: KeyPath, hops: Sites) -> Found:
        """What a name names; a key on the way that is itself a reference leads on to what it names."""
        try:
            path, rest = scan_path(name)
        except ValueError as error:
            raise _error(node, home, f"`${{{name}}}` is no reference: {error}", "Write `${data_root}`.") from None
        current, at, spelled = self.root, KeyPath(), KeyPath()
        for segment in path:
            current, at = self._follow(current, at, hops)
            below = current.child(segment)
            if rest or below is None or below[1].gone:
                fix = self.unknown or did_you_mean(name, (format_path(key) for key in self.root.walk() if key))
                raise _error(node, home, f"`${{{name}}}` names no key", fix)
            key, current = below
            at, spelled = (*at, key), (*spelled, key)
        return current, at, spelled

    def _follow(self, node: Node, at: KeyPath, hops: Sites) -> tuple[Node, KeyPath]:
        while (name := whole_reference(node)) is not None:
            if at in hops:
                raise self._cycle(hops, at)
            if len(hops) >= MAX_DEPTH:
                raise _error(node, at, f"more than {MAX_DEPTH} references lead from one to the next")
            hops = (*hops, at)
            node, at, _ = self._find(name, node, at, hops)
        return node, at

    def _cycle(self, sites: Sites, again: KeyPath) -> ConfigError:
        ring = sites[sites.index(again) :]
        start = ring.index(min(ring, key=format_path))  # the same message wherever the ring is entered
        ring = (*ring[start:], *ring[: start + 1])
        return _error(self.root.at(ring[0]), ring[0], f"a cycle of references: {' -> '.join(map(format_path, ring))}")


def whole_reference(node: Node) -> str | None:
    """The name of the key, when the node is a string that is exactly one reference to a key."""
    match = _TOKEN.fullmatch(node.value) if isinstance(node.value, str) else None
    name = match["name"] if match else None
    return None if name is None or name == "here" or name.startswith("env:") else name


def _split(text: str) -> Sequence[str | _Reference]:
    """Text and references, in order; never empty. ValueError for a ``${`` that is no reference."""
    parts: list[str | _Reference] = []
    end = 0
    literal = ""
    for match in _TOKEN.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if match["literal"]:
            literal += "${"
            continue
        if match["open"] or "${" in match["name"]:
            raise ValueError("`${` without its `}`" if match["open"] else "a reference within a reference")
        parts += [literal, _Reference(match["name"])] if literal else [_Reference(match["name"])]
        literal = ""
    literal += text[end:]
    return [*parts, literal] if literal or not parts else parts


def _environment(node: Node, home: KeyPath, name: str) -> str:
    variable, colon, default = name.removeprefix("env:").partition(":")
    if not variable:
        raise _error(node, home, "no name after `env:`", "Write `${env:NAME}` or `${env:NAME:default}`.")
    value = os.environ.get(variable, default if colon else None)
    if value is None:
        fix = f"Set it, or give a default: `${{env:{variable}:default}}`."
        raise _error(node, home, f"the environment has no variable {variable}", fix)
    return _utf8(node, home, f"the environment's {variable}", value)


def _utf8(node: Node, home: KeyPath, what: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # undecodable bytes of a path or of the environment
        raise _error(node, home, f"{what} is not UTF-8") from None
    return text


def _absolute(node: Node, value: object) -> object:
    """A path of ``[plugins] local``, relative to the file that wrote it."""
    return os.path.abspath(os.path.join(node.folder, os.path.expanduser(value))) if isinstance(value, str) else value


def _error(node: Node, home: KeyPath, found: str, fix: str = "") -> ConfigError:
    return ConfigError(node.history[-1].origin.at(home), found, fix)
