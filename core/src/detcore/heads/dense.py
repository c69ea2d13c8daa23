"""The composed dense head: geometry, network, assigner, sampler, loss and decoder, each swappable by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from detcore.interfaces import (
    Assigner,
    Container,
    Decoder,
    DenseHead,
    DenseLoss,
    Features,
    Flow,
    Geometry,
    HeadNetwork,
    NumClasses,
    Sampler,
)
from detcore.structures import Batch, Detections, Losses, Predictions


class ComposedHead(Container, DenseHead):
    """A dense head of parts.

    Args:
        num_classes: C.
        loss: How wrong the predictions are; decides between C sigmoids and a softmax over C + 1.
        geometry: Where the priors are, and what a predicted vector means in pixels.
        network: Which numbers per prior.
        assigner: Which prior answers for which object.
        decoder: Which detections come out.
        sampler: Which of the matched priors take part in the losses; None is all.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        loss: DenseLoss,
        geometry: Geometry,
        network: HeadNetwork,
        assigner: Assigner,
        decoder: Decoder,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.loss = loss
        self.geometry = geometry
        self.network = network
        self.assigner = assigner
        self.decoder = decoder
        self.sampler = sampler

    @staticmethod
    def flow_to(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
        """The loss decides the class channels, the geometry the priors per cell and the box channels."""
        flow = flow.having(flow.sources.get("num_classes"), num_classes=built["num_classes"])
        if child in ("loss", "geometry"):
            return flow
        loss, geometry = built["loss"], built["geometry"]
        flow = flow.having(loss, class_channels=loss.class_channels(built["num_classes"]))
        return flow.having(geometry, priors_per_cell=geometry.priors_per_cell, box_channels=geometry.box_channels)

    def forward(self, features: Features, batch: Batch) -> Predictions:
        """L maps (B, C_l, H_l, W_l) -> the raw outputs and where they were made."""
        return Predictions(
            raw=self.network(features),
            priors=self.geometry.priors(features, batch),
            encode=self.geometry.encode,
            decode=self.geometry.decode,
            softmax=self.loss.softmax,
            priors_per_cell=self.geometry.priors_per_cell,
        )

    def losses(self, predictions: Predictions, batch: Batch) -> Losses:
        """Match priors with objects, leave out what the sampler leaves out, weigh what is left."""
        with torch.no_grad():
            matches = self.assigner(predictions, batch)
            if self.sampler is not None:
                matches = self.sampler(matches)
        losses: Losses = self.loss(predictions, matches, batch)
        return losses

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # how many there are depends on values
    def detections(self, predictions: Predictions, batch: Batch, *, train: bool = False) -> list[Detections]:
        """What the decoder makes of the predictions; no gradient flows."""
        with torch.no_grad():
            found: list[Detections] = self.decoder(predictions, batch, train=train)
            return found
