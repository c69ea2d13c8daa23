"""Writes core's ``known.json``: the components of this repository's plugins, so that unknown names say what to install.

``python tools/known.py --write``; the table is ``{kind: {name: distribution}}``, with entry-point names under the kind
``plugin``. No plugin needs to be installed.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tomli
from detcore.catalog import IMPORTER, KNOWN, PLUGIN, Component
from detcore.errors import PluginError
from detcore.plugins import discover

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"


def generate(plugins: Path) -> dict[str, dict[str, str]]:
    """``{kind: {name: distribution}}`` of every plugin in this folder, from its light plugin module.

    Raises:
        PluginError: One of them cannot be loaded.
    """
    points = [point for project in sorted(plugins.glob("*/pyproject.toml")) for point in _declared(project)]
    catalog = discover(points)
    if catalog.broken:
        raise PluginError(catalog.broken[0].plugin, catalog.broken[0].error)
    table: dict[str, dict[str, str]] = {PLUGIN: {point.name: point.dist.name for point in points}}
    for entry in catalog.entries:
        if isinstance(entry.record, Component) and entry.record.kind != IMPORTER:
            table.setdefault(entry.record.kind, {}).setdefault(entry.record.name, entry.distribution)
    return {kind: dict(sorted(names.items())) for kind, names in sorted(table.items())}


def text(table: Mapping[str, Mapping[str, str]]) -> str:
    """The content of ``known.json``."""
    return json.dumps(table, indent=1) + "\n"


def _declared(project: Path) -> Iterator[Any]:
    """What quacks like the entry points that a pyproject.toml declares."""
    table = tomli.loads(project.read_text(encoding="utf-8"))["project"]
    distribution = SimpleNamespace(name=table["name"], version="", read_text=lambda _: None)
    for name, module in table.get("entry-points", {}).get("detcore", {}).items():
        load = functools.partial(_import_from, str(project.parent / "src"), module)
        yield SimpleNamespace(name=name, dist=distribution, load=load)


def _import_from(folder: str, module: str) -> Any:
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(folder)


if __name__ == "__main__":
    content = text(generate(PLUGINS))
    if "--write" in sys.argv[1:]:
        KNOWN.write_text(content, encoding="utf-8")
    else:
        sys.stdout.write(content)
