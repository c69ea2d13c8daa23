"""The configs that the README shows name what there is."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
import tomli
from detcore_formats.plugin import detcore_components

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = [tomli.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
TARGETS = {component.name: component.target for component in detcore_components()}
OWN = [block for block in BLOCKS if block["train"]["dataset"]["type"] in TARGETS]


@pytest.mark.parametrize("block", OWN, ids=lambda block: block["train"]["dataset"]["type"])
def test_a_block_has_a_components_parameters(block: dict[str, dict[str, dict[str, object]]]) -> None:
    table = block["train"]["dataset"]
    module, _, name = TARGETS[str(table["type"])].partition(":")
    inspect.signature(getattr(importlib.import_module(module), name)).bind(
        **{key: table[key] for key in {*table} - {"type"}}
    )


def test_every_component_is_shown() -> None:
    assert {*TARGETS} == {str(block["train"]["dataset"]["type"]) for block in OWN}
