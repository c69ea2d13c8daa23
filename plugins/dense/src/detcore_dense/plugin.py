"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl

SAMPLERS = {
    "RandomSampler": "So many, a share positive",
    "PseudoSampler": "All of them",
    "InstanceBalancedPosSampler": "Positives spread over the objects (Pang et al. 2019, Libra R-CNN)",
    "IoUBalancedNegSampler": "Negatives spread over their IoU (Pang et al. 2019, Libra R-CNN)",
    "OHEMSampler": "Those whose class costs most (Shrivastava et al. 2016, OHEM)",
    "CombinedSampler": "Positives of one sampler, negatives of another",
}


@hookimpl
def detcore_components() -> list[Component]:
    """The shared parts of dense heads, by name."""
    return [
        Component(
            "geometry", "Anchors", "detcore_dense.anchors:Anchors", "Boxes of several scales and ratios per cell"
        ),
        Component("geometry", "Points", "detcore_dense.points:Points", "A point per cell, distances to four sides"),
        Component("box_coder", "DeltaXYWHCoder", "detcore_dense.deltas:DeltaXYWHCoder", "Boxes relative to boxes"),
        Component("head_network", "RPNConv", "detcore_dense.rpn:RPNConv", "The network of an RPN (Ren et al. 2015)"),
        Component("assigner", "MaxIoUAssigner", "detcore_dense.max_iou:MaxIoUAssigner", "By thresholds of the IoU"),
        *(Component("sampler", name, f"detcore_dense.samplers:{name}", text) for name, text in SAMPLERS.items()),
        Component("dense_loss", "DenseBoxLoss", "detcore_dense.loss:DenseBoxLoss", "A class loss and a box loss"),
        Component("decoder", "NMSDecoder", "detcore_dense.decoders:NMSDecoder", "The best per level, NMS per class"),
        Component("decoder", "RPNDecoder", "detcore_dense.decoders:RPNDecoder", "Proposals: NMS per level"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_dense.mmdet:TRANSLATIONS"}
