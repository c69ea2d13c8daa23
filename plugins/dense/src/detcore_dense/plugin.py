"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The shared parts of dense heads, by name."""
    return [
        Component("geometry", "Anchors", "detcore_dense.anchors:Anchors"),
        Component("geometry", "Points", "detcore_dense.points:Points"),
        Component("box_coder", "DeltaXYWHCoder", "detcore_dense.deltas:DeltaXYWHCoder"),
        Component("head_network", "RPNConv", "detcore_dense.rpn:RPNConv"),
        Component("assigner", "MaxIoUAssigner", "detcore_dense.max_iou:MaxIoUAssigner"),
        Component("sampler", "RandomSampler", "detcore_dense.samplers:RandomSampler"),
        Component("dense_loss", "DenseBoxLoss", "detcore_dense.loss:DenseBoxLoss"),
        Component("decoder", "NMSDecoder", "detcore_dense.decoders:NMSDecoder"),
        Component("decoder", "RPNDecoder", "detcore_dense.decoders:RPNDecoder"),
    ]
