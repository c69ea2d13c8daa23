"""CornerNet's head and its losses by their names in MMDetection.

CentripetalNet's head is a corner head there, too: what both share, :func:`corners` and :data:`CORNERS`, is here.
"""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part, Rule

HEATMAP = {"type": "GaussianFocalLoss", "alpha": 2.0, "gamma": 4.0, "loss_weight": 1}
"""The losses of a head that does not say, there:"""
EMBEDDING = {"type": "AssociativeEmbeddingLoss", "pull_weight": 0.25, "push_weight": 0.25}
OFFSET = {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1}

PAIRS = 1000
"""So many pairs go into soft-NMS there, whatever the config says."""

CORNERS: tuple[Rule, ...] = (
    (r"^top_left\.(\d+)\.(\w+)", r"tl_\2.\1"),
    (r"^bottom_right\.(\d+)\.(\w+)", r"br_\2.\1"),
    (r"^(tl|br)_pooling\b", r"\1_pool"),
    (r"^(tl|br)_tag\b", r"\1_emb"),
    (r"^(tl|br)_offset\b", r"\1_off"),
    (r"^(\w+\.\d+\.1)\.(weight|bias)$", r"\1.conv.\2"),  # the last layer of a map
    (r"\bvertical\b", "direction1_conv"),
    (r"\bhorizontal\b", "direction2_conv"),
    (r"\bpooled\b", "aftpool_conv"),
    (r"\bshortcut\b", "conv1"),
    (r"\bout\b", "conv2"),
    (r"\bnorm\b", "bn"),
)
"""Names of tensors of a head of corner pairs."""


def corner_head(head: Foreign) -> Part:
    """CornerHead."""
    head.only(corner_emb_channels=1)
    embedding = head.part("loss_embedding", EMBEDDING)
    return head.into("CornerHead", *CORNERS, **corners(head), loss_embedding=embedding)


def corners(head: Foreign) -> dict[str, Any]:
    """What heads of corner pairs share: the losses of heat and offsets, and how corners are paired."""
    head.wired("num_classes", "num_feat_levels")
    head.only(in_channels=256, init_cfg=None)  # its maps are predicted from 256 channels, whatever it reads
    return {
        "loss_heatmap": head.part("loss_heatmap", HEATMAP),
        "loss_offset": head.part("loss_offset", OFFSET),
        "pairing": pairing(head.table("test_cfg")),
    }


def pairing(test: Foreign) -> dict[str, Any]:
    """``test_cfg``. Corners beyond the right and bottom edge of the image stay where they are there."""
    test.get("score_thr")  # every config has it, no corner head reads it
    same = ("corner_topk", "local_maximum_kernel", "distance_threshold")
    keys = test.keep(**{name: name for name in same}, max_per_image="max_per_img")
    if keys.get("max_per_image", PAIRS) <= 0:  # no limit
        keys["max_per_image"] = PAIRS
    nms = next((name for name in ("nms", "nms_cfg") if name in test), None)
    return {**keys, **({} if nms is None else soft_nms(test.table(nms))), "clip": False}


def soft_nms(nms: Foreign) -> dict[str, Any]:
    """``nms``: soft-NMS by a Gaussian, which neither has a threshold nor depends on how boxes are split up."""
    for key, ours, theirs in (("type", "soft_nms", "nms"), ("method", "gaussian", "linear")):
        if nms.get(key, theirs) != ours:
            nms.lose(key, f"only {ours!r} has a counterpart; unsaid, it is {theirs!r}")
    nms.only(class_agnostic=False, offset=0)
    for unused in ("iou_threshold", "iou_thr", "split_thr"):
        nms.get(unused)
    return nms.keep(sigma="sigma", min_score="min_score")


def gaussian_focal(loss: Foreign) -> Part:
    """GaussianFocalLoss."""
    loss.only(reduction="mean", pos_weight=1.0, neg_weight=1.0)
    return loss.into("GaussianFocalLoss", **loss.keep(alpha="alpha", gamma="gamma", loss_weight="loss_weight"))


def associative_embedding(loss: Foreign) -> Part:
    """AssociativeEmbeddingLoss."""
    return loss.into("AssociativeEmbeddingLoss", **loss.keep(pull_weight="pull_weight", push_weight="push_weight"))


TRANSLATIONS = {
    "CornerHead": corner_head,
    "GaussianFocalLoss": gaussian_focal,
    "AssociativeEmbeddingLoss": associative_embedding,
}
