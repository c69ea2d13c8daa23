"""The configs that the READMEs of data formats show name what there is."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli

ROOT = Path(__file__).parents[2]
PLUGINS = ("formats", "lvis", "yolo")


def targets(plugin: str) -> dict[str, str]:
    """Where the components of a plugin are, by name."""
    components = importlib.import_module(f"detcore_{plugin}.plugin").detcore_components()
    return {component.name: component.target for component in components}


def shown(plugin: str) -> list[Mapping[str, Any]]:
    """The tables of its own datasets in a plugin's README."""
    text = (ROOT / "plugins" / plugin / "README.md").read_text(encoding="utf-8")
    blocks = [tomli.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    return [table for table in (block["train"]["dataset"] for block in blocks) if table["type"] in targets(plugin)]


@pytest.mark.parametrize(
    ("plugin", "table"),
    [pytest.param(plugin, table, id=table["type"]) for plugin in PLUGINS for table in shown(plugin)],
)
def test_a_block_has_a_components_parameters(plugin: str, table: Mapping[str, Any]) -> None:
    module, _, name = targets(plugin)[str(table["type"])].partition(":")
    inspect.signature(getattr(importlib.import_module(module), name)).bind(
        **{key: table[key] for key in {*table} - {"type"}}
    )


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_component_is_shown(plugin: str) -> None:
    assert {*targets(plugin)} == {str(table["type"]) for table in shown(plugin)}
