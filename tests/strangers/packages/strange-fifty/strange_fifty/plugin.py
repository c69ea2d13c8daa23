"""Fifty components by one list."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    return [Component("loss", f"Strange{number:02}", "strange_fifty.losses:Strange") for number in range(50)]
