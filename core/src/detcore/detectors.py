"""Detectors of one stage and of two, made of backbone, necks and heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from detcore.interfaces import Backbone, DenseHead, Detector, Flow, Neck, RoIHead
from detcore.structures import Batch, Detections, Losses


class OneStage(Detector):
    """Backbone, necks (none, one or several in a row) and a dense head.

    Args:
        backbone: Images to maps.
        neck: Maps to maps.
        head: Maps to losses and detections.
    """

    def __init__(self, *, backbone: Backbone, neck: Neck | Sequence[Neck] | None = None, head: DenseHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = _in_a_row(neck)
        self.head = head

    @staticmethod
    def flow_to(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
        """What a neck or head reads are the maps of the last neck before it, or of the backbone."""
        return pyramid_flow(child, built, flow)

    def forward(self, batch: Batch, mode: str = "losses") -> Any:
        """:meth:`losses` or :meth:`detections`; as the interface has it, here where the way of a step is read."""
        return self.losses(batch) if mode == "losses" else self.detections(batch)

    def losses(self, batch: Batch) -> Losses:
        """Named scalars of one training step."""
        features = self.neck(self.backbone(batch.images))
        return self.head.losses(self.head(features, batch), batch)

    def detections(self, batch: Batch) -> list[Detections]:
        """Per image the detections, in input pixels."""
        features = self.neck(self.backbone(batch.images))
        return self.head.detections(self.head(features, batch), batch)


class TwoStage(Detector):
    """Backbone, necks, a dense head that proposes regions (an RPN) and a RoI head that classifies them.

    Args:
        backbone: Images to maps.
        neck: Maps to maps.
        rpn_head: Maps to proposals, of one class.
        roi_head: Maps and proposals to losses and detections.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | Sequence[Neck] | None = None,
        rpn_head: DenseHead,
        roi_head: RoIHead,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = _in_a_row(neck)
        self.rpn_head = rpn_head
        self.roi_head = roi_head

    @staticmethod
    def flow_to(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
        """As for one stage; the RPN tells one class (object) from background."""
        flow = pyramid_flow(child, built, flow)
        return flow.having("two stages: an RPN has one class", num_classes=1) if child == "rpn_head" else flow

    def losses(self, batch: Batch) -> Losses:
        """Losses of both stages; those of the first are named ``rpn_...`` and know one class."""
        features = self.neck(self.backbone(batch.images))
        predictions = self.rpn_head(features, batch)
        with torch.no_grad():
            proposals = self.rpn_head.detections(predictions, batch, train=True)
        of_regions = self.roi_head.losses(features, proposals, batch)
        # made last, what the first stage keeps for the backward pass is gone first, before its peak
        of_priors = self.rpn_head.losses(predictions, batch.with_one_class())
        return {f"rpn_{name}": value for name, value in of_priors.items()} | of_regions

    def detections(self, batch: Batch) -> list[Detections]:
        """Per image the detections, in input pixels."""
        features = self.neck(self.backbone(batch.images))
        proposals = self.rpn_head.detections(self.rpn_head(features, batch), batch)
        return self.roi_head.detections(features, proposals, batch)


def pyramid_flow(child: str, built: Mapping[str, Any], flow: Flow) -> Flow:
    """The maps of the last module before ``child``: the backbone's, or those of the last neck that is built."""
    if child == "backbone":
        return flow
    necks = built.get("neck")
    necks = list(necks) if isinstance(necks, Sequence) else [necks] if necks is not None else []
    return flow.after((necks or [built["backbone"]])[-1])


def _in_a_row(necks: Neck | Sequence[Neck] | None) -> nn.Module:
    if necks is None:
        return nn.Identity()
    return nn.Sequential(*necks) if isinstance(necks, Sequence) else necks
