"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component]:
    """The backbone."""
    target = "detcore_shufflenet.shufflenet:ShuffleNetV2"
    return [Component("backbone", "ShuffleNetV2", target, "Split and shuffled channels (Ma et al. 2018)")]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMClassification's name for it, which MMDetection takes."""
    return {"mmdet": "detcore_shufflenet.mmdet:TRANSLATIONS"}
