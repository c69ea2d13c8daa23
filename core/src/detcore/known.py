"""Generates ``known.json``: the components of this project's plugins, so that an unknown name says what to install.

``python -m detcore.known --write`` in the repository writes ``{kind: {name: distribution}}`` of ``plugins/*/``; under
the kind ``plugin`` it holds entry-point names.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli
from attrs import frozen

from detcore.catalog import KNOWN, PLUGIN, Component
from detcore.errors import PluginError
from detcore.plugins import discover

REPOSITORY = Path(__file__).resolve().parents[3]
"""Where core lies in the source tree; around an installed wheel there is no ``plugins``."""


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
        if isinstance(entry.record, Component):
            table.setdefault(entry.record.kind, {}).setdefault(entry.record.name, entry.distribution)
    return {kind: dict(sorted(names.items())) for kind, names in sorted(table.items())}


def text(table: Mapping[str, Mapping[str, str]]) -> str:
    """The content of ``known.json``."""
    return json.dumps(table, indent=1) + "\n"


@frozen
class _Distribution:
    name: str
    version: str = ""


@frozen
class _Declared:
    """An entry point as a pyproject.toml declares it; quacks like importlib_metadata's."""

    name: str
    dist: _Distribution
    load: Callable[[], Any]


def _declared(project: Path) -> list[_Declared]:
    table = tomli.loads(project.read_text(encoding="utf-8"))["project"]
    sources = str(project.parent / "src")

    def load(module: str) -> Any:
        sys.path.insert(0, sources)
        try:
            return importlib.import_module(module)
        finally:
            sys.path.remove(sources)

    distribution = _Distribution(table["name"])
    points = table.get("entry-points", {}).get("detcore", {})
    return [_Declared(name, distribution, functools.partial(load, value)) for name, value in points.items()]


def main() -> None:
    """``python -m detcore.known``: print the table; with ``--write``: write it to ``known.json``."""
    table = text(generate(REPOSITORY / "plugins"))
    if "--write" in sys.argv[1:]:
        KNOWN.write_text(table, encoding="utf-8")
    else:
        sys.stdout.write(table)


if __name__ == "__main__":
    main()
