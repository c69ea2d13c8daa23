"""The configs that the READMEs of data formats show name what there is."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli
from detcore.interfaces import Evaluator

ROOT = Path(__file__).parents[2]
PLUGINS = ("formats", "lvis", "yolo")


def targets(plugin: str) -> dict[str, str]:
    """Where the components of a plugin are, by name."""
    components = importlib.import_module(f"detcore_{plugin}.plugin").detcore_components()
    return {component.name: component.target for component in components}


def shown(plugin: str) -> list[Mapping[str, Any]]:
    """The tables of its own components in a plugin's README."""
    text = (ROOT / "plugins" / plugin / "README.md").read_text(encoding="utf-8")
    blocks = [tomli.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    return [table for table in tables(blocks) if table.get("type") in targets(plugin)]


def tables(value: Any) -> Iterator[Mapping[str, Any]]:
    """Those at any depth."""
    if isinstance(value, Mapping):
        yield value
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from tables(each)


@pytest.mark.parametrize(
    ("plugin", "table"),
    [pytest.param(plugin, table, id=table["type"]) for plugin in PLUGINS for table in shown(plugin)],
)
def test_a_block_has_a_components_parameters(plugin: str, table: Mapping[str, Any]) -> None:
    module, _, name = targets(plugin)[str(table["type"])].partition(":")
    component = getattr(importlib.import_module(module), name)
    given: dict[str, Any] = {"dataset": None} if issubclass(component, Evaluator) else {}
    inspect.signature(component).bind(**given, **{key: table[key] for key in {*table} - {"type"}})


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_component_is_shown(plugin: str) -> None:
    assert {*targets(plugin)} == {str(table["type"]) for table in shown(plugin)}
