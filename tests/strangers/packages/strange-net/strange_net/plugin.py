"""A backbone, built with setuptools."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    return [Component("backbone", "StrangeNet", "strange_net.net:StrangeNet")]
