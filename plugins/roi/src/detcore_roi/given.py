"""Regions that come with the data: Girshick 2015, Fast R-CNN, section 2."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from detcore.errors import DataError
from detcore.interfaces import DenseHead, Features
from detcore.structures import Batch, Detections, Losses, clip_boxes


class GivenProposals(DenseHead):
    """In the place of an RPN: the regions of the data, best first, clipped to their image. Nothing of it is trained.

    Args:
        max_proposals: So many of an image at most.
    """

    def __init__(self, *, max_proposals: int = 2000) -> None:
        super().__init__()
        self.max_proposals = max_proposals

    def forward(self, features: Features, batch: Batch) -> None:
        """There is nothing to compute."""

    def losses(self, predictions: None, batch: Batch) -> Losses:
        """None."""
        return {}

    def detections(self, predictions: None, batch: Batch, *, train: bool = False) -> list[Detections]:
        """Per image its regions, in input pixels, with or without ``train``.

        Raises:
            DataError: The data has none.
        """
        given: Sequence[Detections] | None = batch.proposals
        if given is None:
            fix = "Give the dataset some: ProposalsDataset reads them from a file."
            raise DataError("GivenProposals", "the data has no proposals", fix)
        some = [each.each(lambda rows: rows[: self.max_proposals]) for each in given]
        return [
            attrs.evolve(each, boxes=clip_boxes(each.boxes, size)) for each, size in zip(some, batch.sizes, strict=True)
        ]
