"""detcore: an object-detection toolbox whose core knows no model.

Plugin authors need ``hookimpl`` and the records ``Component``, ``Namespace`` and ``Kind``; scripts need
``load_config``, ``load_dataset`` and ``load_detector``. Each is imported when it is first asked for, so that
``import detcore`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detcore.catalog import Component, Kind, Namespace
    from detcore.hookspecs import hookimpl
    from detcore.scripts import load_config, load_dataset
    from detcore.trained import load_detector

__version__ = "0.1.0"
__all__ = ["Component", "Kind", "Namespace", "hookimpl", "load_config", "load_dataset", "load_detector"]

_HOMES = {
    "hookimpl": "hookspecs",
    **dict.fromkeys(("Component", "Kind", "Namespace"), "catalog"),
    **dict.fromkeys(("load_config", "load_dataset"), "scripts"),
    "load_detector": "trained",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'detcore' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"detcore.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
