"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The backbone."""
    return [Component("backbone", "ResNet", "detcore_resnet.resnet:ResNet", "ResNet-18 to -152 (He et al. 2016)")]
