"""Tests keep what they cache apart from the user's."""

from __future__ import annotations

import os
import tempfile

import pytest

CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """A cache of this session's own, for the processes that tests start too."""
    config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="detcore-tests-", ignore_cleanup_errors=True)
    os.environ["DETCORE_CACHE"] = config.stash[CACHE].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes it."""
    config.stash[CACHE].cleanup()
