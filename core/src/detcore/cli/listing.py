"""What ``core-run plugins`` prints, as plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from detcore.catalog import Catalog, Component, Entry, Kind, Record
from detcore.errors import PluginError, did_you_mean


def plugin_table(catalog: Catalog, broken_only: bool) -> str:
    """One row per plugin: what it is, its version, how much of what it provides, or its exception."""
    owners: dict[tuple[str, str], list[Entry[Record]]] = {}
    for entry in () if broken_only else catalog.entries:
        owners.setdefault((entry.plugin, entry.version), []).append(entry)
    rows = [(plugin, version, _summary(entries)) for (plugin, version), entries in owners.items()]
    rows += [(each.plugin, each.version, f"broken: {each.error}") for each in catalog.broken]
    rows += [(plugin, "", "blocked") for plugin in catalog.blocked if not broken_only]
    return _columns([("plugin", "version", "provides"), *rows]) if rows else "no plugin is broken"


def plugin_page(catalog: Catalog, name: str) -> str:
    """Kinds, names and targets of the plugin called ``name``: a distribution, an entry point, or both.

    Raises:
        PluginError: There is no such plugin, or it is broken.
    """
    for broken in catalog.broken:
        if name in _names(broken.plugin):
            raise PluginError(broken.plugin, f"version {broken.version} cannot be loaded: {broken.error}")
    entries = [entry for entry in catalog.entries if name in _names(entry.plugin)]
    if not entries:
        near = did_you_mean(name, (each for entry in catalog.entries for each in _names(entry.plugin)))
        raise PluginError("", f'no plugin "{name}" is installed', near)
    return _columns([("kind", "name", "target", ""), *map(_row, entries)])


def _names(plugin: str) -> tuple[str, ...]:
    return (plugin, *plugin.split("/", 1))


def _summary(entries: Sequence[Entry[Record]]) -> str:
    """``assigner TinyAssigner; dense_head (12); optimizer torch.optim.*``: names where there are few."""
    kinds: dict[str, list[str]] = {}
    for entry in entries:
        kind, name, *_ = _row(entry)
        kinds.setdefault(kind, []).append(name)
    parts = [
        f"{kind} {', '.join(names)}" if len(names) < 4 else f"{kind} ({len(names)})" for kind, names in kinds.items()
    ]
    return textwrap.shorten("; ".join(parts), 110, placeholder=" ...")


def _row(entry: Entry[Record]) -> tuple[str, str, str, str]:
    match entry.record:
        case Component(kind, name, target, summary):
            return kind, name, target, summary
        case Kind(name, interface, _, summary):
            return "kind", name, interface, summary
        case space:
            return space.kind, f"{space.module}.*", space.base, space.summary


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
