"""Tests keep what they cache apart from the user's; those that need a plugin that is not installed are skipped."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Generator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest

CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
ABSENT = {
    path.parent.name
    for path in Path(__file__).parent.glob("plugins/*/pyproject.toml")
    if importlib.util.find_spec(f"detcore_{path.parent.name.replace('-', '_')}") is None
}
"""Plugins of this repository that are not installed."""


class Absent(MetaPathFinder):
    """Comes last: what imports a plugin of this repository that nobody found is skipped, module or test."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Skips what imports it, or finds nothing."""
        if path is None and name.startswith("detcore_") and name[8:].replace("_", "-") in ABSENT:
            pytest.skip(f"{name.replace('_', '-')} is not installed", allow_module_level=True)


def pytest_configure(config: pytest.Config) -> None:
    """A cache of this session's own, for the processes that tests start too."""
    config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="detcore-tests-", ignore_cleanup_errors=True)
    os.environ["DETCORE_CACHE"] = config.stash[CACHE].name
    sys.meta_path.append(Absent())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes it."""
    config.stash[CACHE].cleanup()
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Absent)]


def pytest_collect_file(file_path: Path) -> None:
    """A plugin's own tests are not skipped: whoever runs them means it."""
    parts = file_path.parts
    if "plugins" in parts[:-2] and (own := parts[parts.index("plugins") + 1]) in ABSENT:
        raise pytest.UsageError(f"detcore-{own} is not installed: python -m pip install -e plugins/{own}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test whose config names a component of a plugin that is not installed fails with the advice to install it."""
    report = yield
    told = {*re.findall(r"pip install detcore-([a-z0-9-]*[a-z0-9])", report.longreprtext if report.failed else "")}
    if absent := sorted(told & ABSENT):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: detcore-{absent[0]} is not installed")
    return report
