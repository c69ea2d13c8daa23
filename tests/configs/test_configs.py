"""Every recipe folds, says nothing unknown and builds its model; every fragment is part of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from detcore import load_config, run

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.rglob("*.toml") if "_base_" not in path.parts)
FRAGMENTS = sorted((CONFIGS / "_base_").rglob("*.toml"))


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_has_no_problem(recipe: Path) -> None:
    """Its model is built and wired; no weights are fetched, no data is read."""
    classes = [] if "classes" in load_config(str(recipe)).table else ['classes=["cat", "dog"]']
    (line,) = run.check(str(recipe), sets=classes)
    assert line.endswith(f"{name(recipe)}: no problem found")


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=name)
def test_a_fragment_is_part_of_a_recipe(fragment: Path) -> None:
    named = f"_base_/{fragment.relative_to(CONFIGS / '_base_').as_posix()}"
    assert any(named in recipe.read_text(encoding="utf-8") for recipe in RECIPES)


def test_the_page_lists_every_recipe() -> None:
    page = (CONFIGS / "README.md").read_text(encoding="utf-8")
    assert [name(recipe) for recipe in RECIPES if f"`{name(recipe)}`" not in page] == []
