"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The neck."""
    return [Component("neck", "FPN", "detcore_fpn.fpn:FPN", "Feature pyramid network (Lin et al. 2017)")]
