"""Misspells a hook."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_componets() -> list[Component]:
    return []
