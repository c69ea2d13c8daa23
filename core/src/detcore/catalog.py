"""What is installed: records of components, and how a name in a config becomes an imported object. Imports no torch.

A component is a name of a kind (``TinyNeck`` is a ``neck``) with the address of its code; a namespace opens a whole
library for a kind without listing it; a kind has an interface. Code behind an address is imported when it is first
asked for.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from attrs import frozen

from detcore.errors import ComponentError, ConfigError, PluginError, UserError, one_line
from detcore.points import canonical

WEIGHT_SOURCE = "weight_source"
"""The kind under which URL schemes are filed, so that they are looked up as everything else is."""

IMPORTER = "importer"
"""The kind under which translations of other toolboxes' configs are filed; many plugins have one for the same."""

KNOWN = Path(__file__).with_name("known.json")
PLUGIN = "plugin"
"""The kind under which ``known.json`` files entry-point names."""


@frozen
class Component:
    """One thing a config can name.

    Args:
        kind: What it is, e.g. ``"backbone"``.
        name: How ``type = "..."`` calls it; holds no slash.
        target: Where its code is: ``"package.module:Name"``.
        summary: One line for listings.
        instead: The name that has taken its place; a config that uses the old one is told so, for a release.
    """

    kind: str
    name: str
    target: str
    summary: str = ""
    instead: str = ""


@frozen
class Namespace:
    """A library family opened for one kind without listing it; asked only when no component has the name.

    Args:
        kind: What its members are.
        module: Its public attributes are the members; a module-level ``__getattr__`` may make them up.
        base: ``"torch.optim:Optimizer"``: the class that members derive from; empty: any callable is a member.
        summary: One line for listings.
    """

    kind: str
    module: str
    base: str = ""
    summary: str = ""


@frozen
class Kind:
    """A new kind of component.

    Args:
        name: E.g. ``"matcher"``.
        interface: ``"package.module:Class"``; a parameter annotated with it takes components of this kind.
        supplies: How many leading positional arguments the owner of a ``Factory[...]`` of this kind passes.
        summary: One line for listings.
    """

    name: str
    interface: str
    supplies: int = 0
    summary: str = ""


Record = Component | Namespace | Kind
RecordT_co = TypeVar("RecordT_co", bound=Record, covariant=True)


@frozen
class Entry(Generic[RecordT_co]):
    """A record and the plugin it came from, ``"<distribution>/<entry point>"``; distribution names are normalised."""

    record: RecordT_co
    distribution: str
    version: str
    plugin: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def prefixes(self) -> Sequence[str]:
        """What may stand before the slash of ``type = "prefix/Name"`` to choose this entry."""
        module = (self.record.module,) if isinstance(self.record, Namespace) else ()
        return (self.distribution, self.plugin.partition("/")[2], *module)


@frozen
class BrokenPlugin:
    """A plugin that could not be loaded, with its exception in one line."""

    distribution: str
    version: str
    plugin: str
    error: str


@frozen
class Target:
    """What a name in a config stands for, imported."""

    name: str
    kind: str
    obj: Any
    entry: Entry[Record]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.entry})"


@frozen
class Candidates:
    """Who may hold a name, found without an import: components that do, namespaces that could."""

    components: Sequence[Entry[Component]]
    namespaces: Sequence[Entry[Namespace]]


class Catalog:
    """All that is installed; immutable.

    Args:
        entries: One per record, in order of registration; the first kind of a name counts.
        broken: Plugins that could not be loaded.
        blocked: Plugins left out on request, as ``"<distribution>/<entry point>"``.
    """

    def __init__(
        self, entries: Iterable[Entry[Record]] = (), broken: Iterable[BrokenPlugin] = (), blocked: Iterable[str] = ()
    ) -> None:
        kinds: dict[str, Entry[Kind]] = {}
        components: dict[tuple[str, str], tuple[Entry[Component], ...]] = {}
        namespaces: dict[str, tuple[Entry[Namespace], ...]] = {}
        self.entries: Sequence[Entry[Record]] = tuple(entries)
        for entry in self.entries:
            match entry.record:
                case Kind(name=name):
                    kinds.setdefault(name, cast(Entry[Kind], entry))
                case Component(kind=kind, name=name):
                    components[kind, name] = (*components.get((kind, name), ()), cast(Entry[Component], entry))
                case Namespace(kind=kind):
                    namespaces[kind] = (*namespaces.get(kind, ()), cast(Entry[Namespace], entry))
        self.kinds: Mapping[str, Entry[Kind]] = MappingProxyType(kinds)
        self.components: Mapping[tuple[str, str], Sequence[Entry[Component]]] = MappingProxyType(components)
        self.namespaces: Mapping[str, Sequence[Entry[Namespace]]] = MappingProxyType(namespaces)
        self.broken: Sequence[BrokenPlugin] = tuple(broken)
        self.blocked: Sequence[str] = tuple(blocked)

    def find(self, kind: str, name: str, where: str) -> Target:
        """Import what ``name`` (or ``prefix/name``) stands for.

        Raises:
            ConfigError: No such name, a name of another kind, or one that two plugins have.
            PluginError: Its code cannot be imported, or its plugin is broken.
            ComponentError: Its module has no such attribute.
        """
        prefix, bare = split(name)
        found = self.candidates(kind, name)
        members, failures = ({}, []) if found.components else _members(found.namespaces, bare, where)
        owners: Sequence[Entry[Record]] = found.components or list(members)
        if len(owners) > 1:
            raise self.ambiguous(kind, name, owners, where)
        if not owners:
            raise failures[0] if prefix and failures else self.unknown(kind, name, where, failures)
        record = owners[0].record
        if isinstance(record, Component):
            return Target(bare, kind, resolve(record.target, where, f"{kind} {bare} ({owners[0]})"), owners[0])
        return Target(bare, kind, members[owners[0]], owners[0])

    def candidates(self, kind: str | None, name: str) -> Candidates:
        """Who has, or could have, ``name`` (or ``prefix/name``); ``kind`` None: of any kind. Imports nothing."""
        prefix, bare = split(name)
        kinds = [kind] if kind else sorted({*self.namespaces, *(its_kind for its_kind, _ in self.components)})
        components = [entry for each in kinds for entry in self.components.get((each, bare), ())]
        namespaces = [entry for each in kinds for entry in self.namespaces.get(each, ()) if not bare.startswith("_")]
        return Candidates(_chosen(components, prefix), _chosen(namespaces, prefix))

    def holds(self, name: str, where: str) -> bool:
        """Whether a component of some kind is called so; False: only a namespace could have it. Imports nothing.

        A name like those of components is taken for one of them, misspelt, unless their kinds have a namespace.

        Raises:
            ConfigError: No such name, or one that two plugins have.
            PluginError: Its plugin is broken.
        """
        found = self.candidates(None, name)
        kinds: dict[str, list[Entry[Component]]] = {}
        for entry in found.components:
            kinds.setdefault(entry.record.kind, []).append(entry)
        if kinds and min(map(len, kinds.values())) > 1:
            kind, entries = next(iter(kinds.items()))
            raise self.ambiguous(kind, name, entries, where)
        if kinds:
            return True
        near = self.near(None, split(name)[1], cutoff=0.8)  # v2.Compose is no ComposedHead misspelt
        if not found.namespaces or (near and {each.record.kind for each in found.namespaces}.isdisjoint(near.values())):
            raise self.unknown(None, name, where)
        return False

    def kind_of(self, interface: type) -> str | None:
        """The kind whose interface is this class; it may be known by another, re-exported, address."""
        for name, entry in self.kinds.items():
            package = re.split(r"[.:]", entry.record.interface)[0]
            with suppress(UserError):
                if package in sys.modules and resolve(entry.record.interface, "", name) is interface:
                    return name
        return None

    def ambiguous(self, kind: str, name: str, entries: Sequence[Entry[Record]], where: str) -> UserError:
        """The error for a name that several plugins have: says how each is spelt."""
        bare = split(name)[1]
        owners = " and ".join(str(entry) for entry in entries)
        choices = " or ".join(f'type = "{prefix}/{bare}"' for prefix in _distinct_prefixes(entries))
        return ConfigError(where, f'{kind} "{name}" is in {owners}', f"Choose {choices}.")

    def unknown(self, kind: str | None, name: str, where: str, failures: Sequence[UserError] = ()) -> UserError:
        """The error for a name that nobody has: why that is, and what is near.

        Args:
            kind: The kind that is wanted; None: any.
            name: ``Name`` or ``prefix/Name``.
            where: File and key.
            failures: What went wrong when namespaces were asked.
        """
        prefix, bare = split(name)
        wanted = kind or "component"
        provider = _provider(kind, prefix, bare)
        for broken in self.broken:
            if provider == broken.distribution or {prefix, canonical(prefix)} & {*broken.plugin.split("/", 1)}:
                it = f"{broken.distribution} {broken.version}"
                return PluginError(where, f'{wanted} "{name}" is in {it}, which cannot be loaded: {broken.error}')
        others = self.candidates(None, name).components if kind and not provider else ()
        if others:
            is_a = " and ".join(f"{_article(entry.record.kind)} ({entry})" for entry in others)
            return ConfigError(where, f'"{name}" is {is_a}, wanted: {kind}')
        found = f'no {wanted} "{name}" is installed'
        if prefix and not _chosen(self.entries, prefix):
            found = f'no plugin or namespace "{prefix}" for {wanted} "{name}" is installed'
        return ConfigError(where, found, self._advice(provider) or self._nothing_like(kind, bare, failures))

    def _advice(self, provider: str) -> str:
        """How to get at a name that the distribution ``provider`` of this project has; empty when none has it."""
        blocked = [plugin for plugin in self.blocked if plugin.partition("/")[0] == provider]
        installed = [entry for entry in self.entries if entry.distribution == provider]
        if blocked:
            return f"Plugin {blocked[0]} has it and is blocked."
        if installed:
            return f"Another version of {provider} has it, {installed[0]} is installed."
        return f"Install it: pip install {provider}." if provider else ""

    def near(self, kind: str | None, name: str, *, cutoff: float = 0.7) -> Mapping[str, str]:
        """``{"TinyAssigner (assigner)": "assigner"}``: the nearest names over all kinds, with their kinds.

        Those of plugins that could be installed are among them; members of namespaces only for ``kind``, and only
        where the library is imported already.
        """
        labels: dict[str, dict[str, str]] = {}
        for its_kind, its_name, source in self._names(kind):
            labels.setdefault(its_name.lower(), {})[f"{its_name} ({its_kind}{source})"] = its_kind
        near = difflib.get_close_matches(name.lower(), labels, n=3, cutoff=cutoff)
        return {label: its_kind for each in near for label, its_kind in labels[each].items()}

    def _nothing_like(self, kind: str | None, name: str, failures: Sequence[UserError]) -> str:
        broken = [f"{each.plugin} ({each.error})" for each in self.broken] + [each.found for each in failures]
        listings = [("Near names are", self.near(kind, name)), ("Plugins that cannot be loaded:", broken)]
        return " ".join(f"{title} {', '.join(names)}." for title, names in listings if names)

    def _names(self, kind: str | None) -> Iterator[tuple[str, str, str]]:
        """(kind, name, how to get it) of everything that can be listed without an import."""
        for its_kind, name in self.components:
            yield its_kind, name, ""
        for its_kind, names in known().items():
            for name, distribution in names.items():
                if its_kind != PLUGIN and (its_kind, name) not in self.components:
                    yield its_kind, name, f": pip install {distribution}"
        for entry in self.namespaces.get(kind or "", ()):
            module = sys.modules.get(entry.record.module)
            for name in dir(module) if module else ():
                with suppress(UserError):
                    if _member(entry, name, "") is not None:
                        yield entry.record.kind, name, ""


@functools.cache
def known() -> Mapping[str, Mapping[str, str]]:
    """``known.json``: ``{kind: {name: distribution}}`` of this project's plugins, installed or not."""
    table: dict[str, dict[str, str]] = json.loads(KNOWN.read_text(encoding="utf-8"))
    return table


def split(name: str) -> tuple[str, str]:
    """``timm/tiny`` -> (``timm``, ``tiny``); a bare name has the prefix ``""``."""
    prefix, slash, bare = name.partition("/")
    return (prefix, bare) if slash else ("", name)


def resolve(address: str, where: str, what: str) -> Any:
    """Import ``"package.module:Qual.name"``.

    Raises:
        PluginError: The module cannot be imported; shows the exception in one line.
        ComponentError: The module has no such attribute.
    """
    module_name, _, qualname = address.partition(":")
    obj: Any = import_module(module_name, where, what)
    for part in qualname.split("."):
        try:
            obj = getattr(obj, part)
        except AttributeError:
            raise ComponentError(where, f"{what}: module {module_name} has no {qualname}") from None
    return obj


def import_module(name: str, where: str, what: str) -> Any:
    """Import a module of a plugin; whatever it raises becomes a PluginError."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise PluginError(where, f"{what} cannot be imported: {one_line(error)}") from error


def _members(
    namespaces: Sequence[Entry[Namespace]], name: str, where: str
) -> tuple[dict[Entry[Record], Any], list[UserError]]:
    """The member of this name by the namespace that has it; and the errors of those that cannot be asked."""
    members: dict[Entry[Record], Any] = {}
    failures: list[UserError] = []
    for entry in namespaces:
        try:
            member = _member(entry, name, where)
        except UserError as error:
            failures.append(error)
        else:
            members.update({} if member is None else {entry: member})
    return members, failures


def _member(entry: Entry[Namespace], name: str, where: str) -> Any:
    """The public attribute ``name`` of the namespace, if it is a component of its kind; else None."""
    space = entry.record
    what = f"namespace {space.module} ({entry})"
    module = import_module(space.module, where, what)
    try:
        found = None if name.startswith("_") else getattr(module, name, None)
    except Exception as error:  # a module-level __getattr__ runs the plugin's code
        raise PluginError(where, f"{what}: {name} cannot be imported: {one_line(error)}") from error
    if not space.base:
        return found if callable(found) else None
    base = resolve(space.base, where, what)
    return found if inspect.isclass(found) and issubclass(found, base) and found is not base else None


def _provider(kind: str | None, prefix: str, bare: str) -> str:
    """The distribution of this project that has the name, whether or not it is installed; or the empty string."""
    table = known()
    if prefix:
        plugins = table.get(PLUGIN, {})
        return plugins.get(prefix) or (canonical(prefix) if canonical(prefix) in plugins.values() else "")
    kinds = [kind] if kind else [each for each in table if each != PLUGIN]
    return next((table[each][bare] for each in kinds if bare in table.get(each, {})), "")


def _chosen(entries: Sequence[Entry[RecordT_co]], prefix: str) -> list[Entry[RecordT_co]]:
    """Those that ``prefix`` chooses; all when it is empty."""
    return [each for each in entries if not prefix or prefix in each.prefixes or canonical(prefix) == each.prefixes[0]]


def _distinct_prefixes(entries: Sequence[Entry[Record]]) -> Sequence[str]:
    """What tells these entries apart: distribution, else entry point, else module."""
    options = [[entry.prefixes[min(i, len(entry.prefixes) - 1)] for entry in entries] for i in range(3)]
    return next((option for option in options if len(set(option)) == len(entries)), options[-1])


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
