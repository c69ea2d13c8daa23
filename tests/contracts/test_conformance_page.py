"""The page of the conformance kit says what the kit has."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from detcore import testing
from detcore.interfaces import Flow
from detcore.testing import pytest_plugin

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CHECKS = [name for name in testing.__all__ if name.startswith("check_")]


def test_each_check_has_a_section_with_sentences() -> None:
    assert [*SECTIONS] == [*sorted(CHECKS, key=[*SECTIONS].index), "Fixtures"]
    assert [name for name in CHECKS if not re.search("^- ", SECTIONS[name], re.MULTILINE)] == []


@pytest.mark.parametrize("check", CHECKS)
def test_a_section_names_what_the_check_can_be_told(check: str) -> None:
    parameters = inspect.signature(getattr(testing, check)).parameters.values()
    told = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    shared = TEXT.partition("\n## ")[0]
    assert {name for name in told if f"`{name}" not in SECTIONS[check] + shared} == set()


def test_the_page_names_all_that_is_public() -> None:
    assert [name for name in testing.__all__ if f"`{name}`" not in TEXT and f"## {name}" not in TEXT] == []
    assert {name for name in testing.__all__ if not hasattr(testing, name)} == set()
    assert "check_nothing" not in dir(testing)
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match=r"module 'detcore\.testing' has no attribute 'check_nothing'"):
        testing.check_nothing  # noqa: B018


def test_the_page_names_the_fixtures() -> None:
    functions = [node for node in ast.parse(inspect.getsource(pytest_plugin)).body if isinstance(node, ast.FunctionDef)]
    fixtures = {each.name for each in functions if each.decorator_list}
    assert set(re.findall(r"^- `(\w+)`", SECTIONS["Fixtures"], re.MULTILINE)) == fixtures


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's Python as a module."""
    (tmp_path / "conformance_page.py").write_text("\n".join(BLOCKS))
    spec = importlib.util.spec_from_file_location("conformance_page", tmp_path / "conformance_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "conformance_page", module)
    spec.loader.exec_module(module)
    return module


def test_what_the_page_shows_passes(page: ModuleType) -> None:
    tests = {name: each for name, each in vars(page).items() if name.startswith("test_")}
    assert len(tests) == 3
    fixture: Any = inspect.unwrap(pytest_plugin.isolated_catalog)
    for test in tests.values():
        with pytest.MonkeyPatch.context() as patch:
            test(**({"isolated_catalog": fixture(patch)} if inspect.signature(test).parameters else {}))


def test_the_message_that_the_page_shows_is_that_of_the_kit(page: ModuleType) -> None:
    (shown,) = re.findall(r"^```\n(.*)\n```$", TEXT, re.MULTILINE)

    class MyNeck(page.Halved):  # type: ignore[misc, name-defined]
        def forward(self, features: list[object]) -> list[object]:
            return [each[:, :, : each.shape[2] // 2 * 2] for each in super().forward(features)]  # type: ignore[attr-defined]

    with pytest.raises(testing.ConformanceError) as caught:
        testing.check_neck(MyNeck, flow=Flow(channels=(64,), strides=(4,)))
    assert str(caught.value) == shown
