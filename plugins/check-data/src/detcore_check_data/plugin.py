"""This plugin adds a command and no component; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """None: the command is an entry point of its own."""
    return []
