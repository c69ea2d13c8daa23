"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    return [Component("dataset", "ListDataset", "detcore_records.rows:ListDataset", "images and objects in Python")]
