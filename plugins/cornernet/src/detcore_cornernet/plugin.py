"""What this plugin registers."""

from __future__ import annotations

from collections.abc import Sequence

from detcore import Component, Kind, hookimpl


@hookimpl
def detcore_components() -> Sequence[Component | Kind]:
    """The head, its losses, and the kind of losses that tell which corners belong together."""
    return [
        Kind("embedding_loss", "detcore_cornernet.losses:EmbeddingLoss", summary="losses of the tags of corner pairs"),
        Component("dense_head", "CornerHead", "detcore_cornernet.cornernet:CornerHead", "pairs of corners (CornerNet)"),
        Component("loss", "GaussianFocalLoss", "detcore_cornernet.losses:GaussianFocalLoss", "focal loss of heatmaps"),
        Component(
            "embedding_loss",
            "AssociativeEmbeddingLoss",
            "detcore_cornernet.losses:AssociativeEmbeddingLoss",
            "pulls the tags of an object's corners together, pushes objects apart",
        ),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_cornernet.mmdet:TRANSLATIONS"}
