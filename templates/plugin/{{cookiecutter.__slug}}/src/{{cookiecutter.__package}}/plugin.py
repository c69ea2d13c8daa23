"""What this package adds to detcore; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """Called once, whenever plugins are looked for."""
    name = "{{ cookiecutter.__class }}"
    return [
        Component("backbone", f"{name}Backbone", f"{{ cookiecutter.__package }}.backbone:{name}Backbone"),
        Component("neck", f"{name}Neck", f"{{ cookiecutter.__package }}.neck:{name}Neck"),
        Component("loss", f"{name}Loss", f"{{ cookiecutter.__package }}.loss:{name}Loss"),
    ]
