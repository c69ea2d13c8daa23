"""ATSS by its names in MMDetection."""

from __future__ import annotations

from typing import Any

from detcore.foreign import NONE, Foreign, Part

STRIDES = [4, 8, 16, 32, 64]
ANCHORS = {"type": "AnchorGenerator", "scales": [8, 16, 32], "ratios": [0.5, 1.0, 2.0], "strides": STRIDES}
"""The anchors, where nothing is said there; the maps must have these strides then."""
ENTROPY = {"type": "CrossEntropyLoss", "use_sigmoid": True}
SMOOTH = {"type": "SmoothL1Loss", "beta": 1 / 9}
"""The losses, where nothing is said there: those of its base class, and the first one for centerness, too."""
BOX_LOSSES = ("IoULoss", "GIoULoss", "DIoULoss", "CIoULoss")
"""Losses of whole boxes: centerness weighs those alone there."""
START = {
    "type": "Normal",
    "layer": "Conv2d",
    "std": 0.01,
    "override": {"type": "Normal", "name": "atss_cls", "std": 0.01, "bias_prob": 0.01},
}
"""What weights begin with, there and here."""


def atss_head(head: Foreign) -> Part:
    """ATSSHead and what trains and tests it."""
    head.wired("in_channels", "num_classes")
    head.only(pred_kernel_size=3, reg_decoded_bbox=True, init_cfg=START)
    train = head.table("train_cfg")
    train.only(pos_weight=-1, debug=False)
    train.table("sampler").only(type="PseudoSampler")
    if head.get("loss_bbox", SMOOTH).get("type") not in BOX_LOSSES:
        head.lose("loss_bbox", "only losses of whole boxes have a counterpart")
    return head.into(
        "ComposedHead",
        geometry=_anchors(head, train.get("allowed_border", -1)),
        network=_towers(head),
        assigner=train.part("assigner"),
        loss={
            "type": "FCOSLoss",
            "least_weight": 1.0,
            "loss_cls": head.part("loss_cls", ENTROPY),
            "loss_box": head.part("loss_bbox", SMOOTH),
            "loss_centerness": head.part("loss_centerness", ENTROPY),
        },
        decoder=head.part("test_cfg", name="dense test_cfg", quality="centerness"),
    )


def _anchors(head: Foreign, border: Any) -> Any:
    said = "anchor_generator" in head
    anchors = head.part("anchor_generator", ANCHORS, coder=head.table("bbox_coder"), border=border)
    return anchors if said or anchors is None else Part({**anchors.table, "strides": STRIDES}, anchors.home)


def _towers(head: Foreign) -> Part:
    norm = "gn" if head.table("norm_cfg").get("type", "GN") == "GN" else "bn"
    return head.into(
        "ATSSTowers",
        (r"^conv_", "atss_"),
        (r"_convs\.(\d+)\.norm\.", rf"_convs.\1.{norm}."),
        (r"^scales\.(\d+)$", r"scales.\1.scale"),
        **head.keep(channels="feat_channels", stacked_convs="stacked_convs"),
        norm=NONE if head.get("norm_cfg", {}) is None else head.part("norm_cfg"),
        conv=head.part("conv_cfg"),
    )


def assigner(table: Foreign) -> Part:
    """ATSSAssigner; not that with a cost of classes (Chen et al. 2021, DDOD)."""
    table.only(alpha=None, iou_calculator={"type": "BboxOverlaps2D"}, ignore_iof_thr=-1)
    return table.into("ATSSAssigner", **table.keep(topk="topk"))


TRANSLATIONS = {"ATSSHead": atss_head, "ATSSAssigner": assigner}
