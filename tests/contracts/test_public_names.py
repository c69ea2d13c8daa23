"""What plugins may rely on changes with somebody's knowledge only; docs/stability.md is the promise."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from detcore.build import plan
from detcore.catalog import Catalog, Component, Entry
from detcore.config import load
from detcore.plugins import discover, resolve_dist
from detcore.recipe import Recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def public() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_names", ROOT / "tools" / "public.py")
    assert spec
    assert spec.loader
    module = sys.modules["public_names"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_public_names_is_fresh(public: ModuleType) -> None:
    before, now = set(public.LIST.read_text(encoding="utf-8").splitlines()), set(public.names())
    changed = {line.partition("(")[0].partition(":")[0] for line in before - now}
    assert before == now, (
        f"gone or changed: {sorted(changed)}; see docs/stability.md for how a name goes. "
        "If it is meant: python tools/public.py --write"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def gather_boxes(self", "def take_boxes(self"),
        ("class Targets", "class Truth"),
        ("(self, index: Tensor)", "(self, index: Tensor, more: int)"),
        ("    labels: Tensor\n", "    labels: Tensor | None = None\n"),
        ("IGNORED = ", "LEFT_OUT = "),
    ],
)
def test_a_name_that_goes_or_changes_is_seen(old: str, new: str, public: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "detcore"
    folder.mkdir()
    for name in ("__init__", "structures"):
        shutil.copy(ROOT / "core" / "src" / "detcore" / f"{name}.py", folder)
    (folder / "__init__.py").write_text('"""Core."""\n\n__all__: list[str] = []\n')
    before = public.names(source=tmp_path, modules=["structures"])
    text = (folder / "structures.py").read_text(encoding="utf-8")
    assert old in text
    (folder / "structures.py").write_text(text.replace(old, new), encoding="utf-8")
    assert public.names(source=tmp_path, modules=["structures"]) != before


def test_all_that_plugins_import_of_core_is_public(public: ModuleType) -> None:
    modules = ("detcore", *(f"detcore.{name}" for name in public.MODULES))
    own = {"assemble", "build", "checks", "cli", "config", "recipe", "run", "runner", "signature"}
    assert not {name.partition(".")[0] for name in public.MODULES} & own
    for name in modules:
        assert importlib.util.find_spec(name), name


def test_a_name_that_goes_away_is_told_with_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = Entry(Component("optimizer", "Descent", "torch.optim:SGD", instead="SGD"), "acme", "1.0", "acme/acme")
    catalog = Catalog([*discover().entries, old])
    file = tmp_path / "my.toml"
    file.write_text('[optimizer]\ntype = "Descent"\nlr = 0.1\n')
    with caplog.at_level(logging.WARNING):
        plan(load(str(file), resolve_dist=resolve_dist), catalog, Recipe)
    assert caplog.messages == [f'{file}: optimizer.type: optimizer Descent (acme 1.0) goes away: write "SGD"']
    file.write_text('[optimizer]\ntype = "SGD"\nlr = 0.1\n')
    caplog.clear()
    plan(load(str(file), resolve_dist=resolve_dist), catalog, Recipe)
    assert not caplog.messages
