"""A name that another stranger has, too."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    return [Component("loss", "Strange07", "strange_fifty.losses:Strange")]
