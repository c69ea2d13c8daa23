"""A plugin's tests beside core and what it declares: those that need another plugin are skipped, and only there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def conftest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("root_conftest", ROOT / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_skipped_here(conftest: ModuleType) -> None:
    assert not conftest.ABSENT, "run: python -m pip install -r requirements.txt"


def test_what_imports_an_absent_plugin_is_skipped(conftest: ModuleType) -> None:
    conftest.ABSENT.add("two-words")
    finder = conftest.Absent()
    with pytest.raises(pytest.skip.Exception, match=r"^detcore-two-words is not installed$"):
        finder.find_spec("detcore_two_words")
    for name in ("two_words", "detcore_two", "detcore"):
        assert finder.find_spec(name) is None
    assert finder.find_spec("detcore_two_words.part", path=["somewhere"]) is None


@pytest.mark.parametrize(
    ("outcome", "text", "then"),
    [
        ("failed", 'no neck "Two" is installed. Install it: pip install detcore-two-words.', "skipped"),
        ("failed", 'no neck "Two" is installed. Install it: pip install detcore-others.', "failed"),
        ("failed", "assert 1 == 2", "failed"),
        ("passed", "pip install detcore-two-words", "passed"),
    ],
)
def test_a_test_that_was_told_to_install_an_absent_plugin_is_skipped(
    conftest: ModuleType, outcome: str, text: str, then: str
) -> None:
    conftest.ABSENT.add("two-words")
    report: Any = SimpleNamespace(outcome=outcome, failed=outcome == "failed", longreprtext=text, longrepr=text)
    item: Any = SimpleNamespace(path=ROOT / "test_it.py", location=("test_it.py", 3, "test"))
    made = conftest.pytest_runtest_makereport(item)
    next(made)
    with pytest.raises(StopIteration) as ended:
        made.send(report)
    assert ended.value.value is report
    assert report.outcome == then
    assert (report.longrepr == text) == (then != "skipped")


def test_a_plugins_own_tests_are_never_skipped_for_want_of_it(conftest: ModuleType) -> None:
    conftest.ABSENT.add("two-words")
    with pytest.raises(pytest.UsageError, match="detcore-two-words is not installed: python -m pip install -e"):
        conftest.pytest_collect_file(ROOT / "plugins" / "two-words" / "tests" / "test_it.py")
    assert conftest.pytest_collect_file(ROOT / "plugins" / "fcos" / "tests" / "test_it.py") is None
    assert conftest.pytest_collect_file(ROOT / "tests" / "test_it.py") is None
