"""Fixtures for the tests of plugins; pytest finds them where detcore is installed. Importing this imports no torch.

``tiny_dataset``, ``tiny_detector`` and ``isolated_catalog``: see their docstrings, or ``pytest --fixtures``.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from detcore.catalog import Catalog
    from detcore.detectors import OneStage
    from detcore.testing.toys import TinyDataset

PLUGIN = "detcore_isolated_plugin"


@pytest.fixture
def tiny_dataset() -> TinyDataset:
    """Six drawn images of three classes with boxes, outlines and masks, one of them without an object; no files."""
    from detcore.testing.toys import TinyDataset  # noqa: PLC0415 (torch)

    return TinyDataset()


@pytest.fixture
def tiny_detector() -> OneStage:
    """A detector of one stage for the classes of ``tiny_dataset``, made of parts that belong to no plugin."""
    from detcore.testing import toys  # noqa: PLC0415 (torch)

    return toys.tiny_detector()


@pytest.fixture
def isolated_catalog(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Catalog]:
    """``isolated_catalog(my_plugin.plugin, Component("neck", "Mine", "my:Mine"))``: core and these, nothing else.

    It takes modules with hooks, and records. Until the test is over all that is built from configs in this process
    finds the same, whatever else is installed.
    """
    from detcore import hookimpl, plugins  # noqa: PLC0415
    from detcore.points import PLUGINS, Point, installed  # noqa: PLC0415

    core = [point for point in installed(PLUGINS) if point.distribution == "detcore"]

    def isolate(*parts: Any) -> Catalog:
        modules = [each for each in parts if isinstance(each, types.ModuleType)]
        records = [each for each in parts if not isinstance(each, types.ModuleType)]
        if records:
            own: Any = types.ModuleType(PLUGIN)
            own.detcore_components = hookimpl(lambda: records)
            modules.append(own)
        points = [Point("isolated", "0", _Loaded(each)) for each in modules]  # type: ignore[arg-type]
        monkeypatch.setattr(plugins, "installed", lambda group: [*core, *points] if group == PLUGINS else [])
        return plugins.discover()

    isolate()
    return isolate


class _Loaded:
    """As an entry point, of a module that is imported already."""

    def __init__(self, module: types.ModuleType) -> None:
        self.name = self.module = module.__name__
        self._loaded = module

    def load(self) -> types.ModuleType:
        return self._loaded
