"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The backbone."""
    target = "detcore_shufflenet.shufflenet:ShuffleNetV2"
    return [Component("backbone", "ShuffleNetV2", target, "Split and shuffled channels (Ma et al. 2018)")]
