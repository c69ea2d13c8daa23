"""Entry points -> one pluggy manager, one plugin at a time -> a catalog that knows the broken ones. No torch."""

from __future__ import annotations

import importlib.util
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import importlib_metadata
import pluggy

from detcore import hookspecs
from detcore.catalog import IMPORTER, WEIGHT_SOURCE, BrokenPlugin, Catalog, Component, Entry, Kind, Namespace, Record
from detcore.errors import ConfigError, PluginError, did_you_mean, one_line
from detcore.points import PLUGINS, blocked_by_environment, canonical, installed, listed

LOCAL = "local"
"""Stands where a distribution's name would: ``type = "local/MyHead"``."""


def discover(
    source: Iterable[importlib_metadata.EntryPoint] | None = None,
    *,
    block: Iterable[str] = (),
    local: Sequence[str] = (),
) -> Catalog:
    """Load all plugins; one that fails becomes a row of ``Catalog.broken``.

    Args:
        source: The entry points; by default those of the group ``detcore`` that are installed.
        block: Plugins to leave out, besides those ``DETCORE_BLOCK_PLUGINS`` names (separated by commas): by
            distribution, entry point, or ``distribution/entry-point``.
        local: Paths of local modules.

    Raises:
        PluginError: A local module fails: it was asked for.
    """
    blocks = {*block, *blocked_by_environment()}
    manager = pluggy.PluginManager("detcore")
    manager.add_hookspecs(hookspecs)
    entries: list[Entry[Record]] = []
    kinds: dict[str, str] = {}
    broken: dict[str, BrokenPlugin] = {}
    blocked: list[str] = []
    for each in installed(PLUGINS) if source is None else listed(source):
        if manager.has_plugin(each.plugin) or each.plugin in broken:  # the same distribution twice on sys.path
            continue
        if each.is_blocked(blocks):
            blocked.append(each.plugin)
            continue
        if each.misfit:
            broken[each.plugin] = BrokenPlugin(each.distribution, each.version, each.plugin, each.misfit)
            continue
        try:
            records = _register(manager, each.point.load(), each.plugin, kinds)
        except (Exception, SystemExit) as error:
            manager.unregister(name=each.plugin)
            broken[each.plugin] = BrokenPlugin(each.distribution, each.version, each.plugin, one_line(error))
            continue
        entries += [Entry(record, each.distribution, each.version, each.plugin) for record in records]
    for path in dict.fromkeys(local):
        entries += _local(manager, Path(path), kinds)
    return Catalog(entries, broken.values(), blocked)


def resolve_dist(dist: str, path: str) -> Path:
    """The file that ``dist::path`` stands for, in the folder ``configs`` of the plugin's package. Imports no plugin.

    Raises:
        ConfigError: The distribution is not installed or is no plugin, or has no such file.
    """
    where = f"{dist}::{path}"
    try:
        points = importlib_metadata.distribution(dist).entry_points.select(group=PLUGINS)
    except importlib_metadata.PackageNotFoundError:
        raise ConfigError(where, f"{dist} is not installed", f"Install it: pip install {dist}.") from None
    folder = "_configs" if canonical(dist) == "detcore" else "configs"
    packages = sorted({point.module.partition(".")[0] for point in points})
    roots = [Path(root) / folder for package in packages for root in _folders(package)]
    for root in roots:
        if (root / path).is_file():
            return root / path
    if not any(root.is_dir() for root in roots):
        raise ConfigError(where, f"{dist} has no configs")
    files = [file.relative_to(root).as_posix() for root in roots for file in root.rglob("*.toml")]
    raise ConfigError(where, f"{dist} has no such config", did_you_mean(path, files))


def recipes() -> list[str]:
    """``dist::path`` of every config that an installed plugin ships, fragments aside. Imports no plugin."""
    roots = {
        (each.distribution, Path(root) / ("_configs" if each.distribution == "detcore" else "configs"))
        for each in installed(PLUGINS)
        for root in _folders(each.point.module.partition(".")[0])
    }
    files = {(dist, file.relative_to(root)) for dist, root in roots for file in root.rglob("*.toml")}
    return sorted(f"{dist}::{file.as_posix()}" for dist, file in files if "_base_" not in file.parts)


def _register(manager: pluggy.PluginManager, module: Any, plugin: str, kinds: dict[str, str]) -> list[Record]:
    """Register one plugin, list its records and add its kinds to ``kinds``; whatever is wrong with it is raised."""
    manager.register(module, plugin)
    manager.check_pending()
    records: list[Record] = [each for result in _results(manager, "components", module) for each in result]
    for hook, kind in (("weight_sources", WEIGHT_SOURCE), ("importers", IMPORTER)):
        for targets in _results(manager, hook, module):
            records += [Component(kind, name, target) for name, target in targets.items()]
    opened = dict(kinds)
    names: set[tuple[str, str]] = set()
    for record in records:
        match record:
            case Component(kind, name, target):
                if (kind, name) in names:
                    raise ValueError(f"{kind} {name} is registered twice")
                if not name or "/" in name or ":" not in target:
                    raise ValueError(f'{record}: a name holds no slash, a target is "package.module:Name"')
                names.add((kind, name))
            case Kind(name, interface):
                if opened.setdefault(name, interface) != interface:
                    raise ValueError(f"kind {name} is taken: its interface is {opened[name]}")
            case Namespace():
                pass
            case _:
                raise TypeError(f"detcore_components returned {record!r}: neither Component nor Namespace nor Kind")
    kinds.update(opened)
    return records


def _results(manager: pluggy.PluginManager, hook: str, module: Any) -> Iterator[Any]:
    for implementation in getattr(manager.hook, f"detcore_{hook}").get_hookimpls():
        if implementation.plugin is module:
            yield implementation.function()


def _local(manager: pluggy.PluginManager, path: Path, kinds: dict[str, str]) -> list[Entry[Record]]:
    plugin = f"{LOCAL}/{path.stem}"
    if manager.has_plugin(plugin):
        raise PluginError(str(path), f"two local modules are called {path.stem}", "Rename one of them.")
    if path.suffix != ".py" or not path.is_file():
        raise PluginError(str(path), "no such Python file", "It is named in [plugins] local.")
    try:
        records = _register(manager, _import_file(path), plugin, kinds)
    except (Exception, SystemExit) as error:
        raise PluginError(str(path), f"cannot be loaded: {one_line(error)}") from error
    return [Entry(record, LOCAL, path.name, plugin) for record in records]


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name of its own, once per content: targets are ``f"{__name__}:MyHead"``."""
    digest = zlib.crc32(f"{path.resolve()}:{path.stat().st_mtime_ns}".encode())
    name = f"detcore_local_{re.sub(r'[^a-zA-Z0-9]', '_', path.stem)}_{digest:08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _folders(package: str) -> Sequence[str]:
    """Where a top-level package lies; finding it imports nothing."""
    spec = importlib.util.find_spec(package)
    return spec.submodule_search_locations or () if spec else ()
