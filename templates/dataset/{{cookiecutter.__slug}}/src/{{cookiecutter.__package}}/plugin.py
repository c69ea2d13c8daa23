"""What this package adds to detcore; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once, whenever plugins are looked for."""
    name = "{{ cookiecutter.__class }}"
    target = f"{{ cookiecutter.__package }}.dataset:{name}"
    return [Component("dataset", name, target, "JSON lines: one image each")]
