"""What can be said of a config without data: everything that is wrong with it, and what it may hold."""

from __future__ import annotations

from typing import Any

from detcore.assemble import Strings, check_length, class_flow, load, param_rules
from detcore.build import plan
from detcore.plugins import discover
from detcore.recipe import Recipe
from detcore.runner.parameters import factors
from detcore.schema import schema_of


def check(source: str, *, sets: Strings = (), swaps: Strings = ()) -> list[str]:
    """Hold a config against what is installed and wire its model; no data is touched. Returns lines of a report."""
    config, catalog = load(source, sets, swaps)
    checked = plan(config, catalog, Recipe, load_weights=False)
    check_length(config, checked)
    classes = checked.build("classes")
    lines = [f"warning: {warning}" for warning in config.warnings]
    if "model" in checked and classes is not None:
        factors(checked.build("model", class_flow(config, classes)), param_rules(checked))
    elif "model" in checked:
        lines.append("not verified: channels, as the classes are read from the annotations (write `classes` to verify)")
    return [*lines, f"{config.table.where()}: no problem found"]


def schema() -> dict[str, Any]:
    """A JSON Schema of everything that is installed: what a config may say."""
    return schema_of(discover(), Recipe)
