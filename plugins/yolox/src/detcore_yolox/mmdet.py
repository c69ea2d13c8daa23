"""YOLOX by its names in MMDetection.

There a hook, which is no part of the model, lets ``loss_l1`` count in the last epochs; here ``l1_from`` of the loss
says when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from detcore.foreign import Foreign, Part
from detcore_csp_darknet.mmdet import layer_names, layers
from detcore_dense.mmdet import nms_iou

ENTROPY = {"type": "CrossEntropyLoss", "use_sigmoid": True, "reduction": "sum"}
IOU = {"type": "IoULoss", "mode": "square", "eps": 1e-16, "reduction": "sum", "loss_weight": 5.0}
L1 = {"type": "L1Loss", "reduction": "sum"}
"""The losses, where nothing is said there."""
BOX_LOSSES = ("IoULoss", "GIoULoss", "DIoULoss", "CIoULoss")
"""Losses that read boxes in pixels here; there every one does."""
STRIDES = [8, 16, 32]
"""The strides, where nothing is said there; those of the maps must be the same then."""
START = {
    "type": "Kaiming",
    "layer": "Conv2d",
    "a": math.sqrt(5),
    "distribution": "uniform",
    "mode": "fan_in",
    "nonlinearity": "leaky_relu",
}
"""What weights begin with, there and here."""


def pafpn(neck: Foreign) -> Part:
    """YOLOXPAFPN."""
    neck.wired("in_channels")
    neck.only(upsample_cfg={"scale_factor": 2, "mode": "nearest"}, init_cfg=START)
    keys = neck.keep(out_channels="out_channels", num_csp_blocks="num_csp_blocks")
    return neck.into("YOLOXPAFPN", *layer_names(neck, r"^downsamples\.\d+|\.conv2"), **keys, **layers(neck))


def yolox_head(head: Foreign) -> Part:
    """YOLOXHead and what trains and tests it."""
    head.wired("in_channels", "num_classes", "strides")
    head.only(dcn_on_last_conv=False, init_cfg=START)
    if head.get("conv_bias", "auto") not in ("auto", False):
        head.lose("conv_bias", "convolutions before a norm have none here")
    if head.get("loss_bbox", IOU).get("type") not in BOX_LOSSES:
        head.lose("loss_bbox", "it reads boxes in pixels there, encoded ones here")
    return head.into(
        "ComposedHead",
        geometry=head.into("PointsWH", strides=None if "strides" in head else STRIDES),
        network=head.into(
            "YOLOXTowers",
            *layer_names(head, r"^(?:cls|reg)_convs\.\d+\.\d+"),
            (r"^", "multi_level_"),
            channels=head.get("feat_channels", 256),
            **head.keep(stacked_convs="stacked_convs"),
            **layers(head),
        ),
        assigner=head.table("train_cfg").part("assigner"),
        loss={
            "type": "YOLOXLoss",
            "loss_cls": _loss(head, "loss_cls", ENTROPY),
            "loss_box": _loss(head, "loss_bbox", IOU),
            "loss_obj": _loss(head, "loss_obj", ENTROPY),
            "loss_l1": _loss(head, "loss_l1", L1),
        },
        decoder=_decoder(head.table("test_cfg")),
    )


def _loss(head: Foreign, key: str, usual: Mapping[str, Any]) -> Any:
    """A loss: there a sum that the head divides by the number of positives, here a mean over them."""
    part, table = head.part(key, usual), head.table(key)
    if table.get("reduction", "mean") != "sum":
        table.lose("reduction", "only 'sum' has a counterpart: the head divides it by the number of positives")
    if part is None:
        return None
    return Part({name: value for name, value in part.table.items() if name != "reduction"}, part.home, part.rules)


def _decoder(test: Foreign) -> Part:
    """The head there looks at two keys alone; boxes may reach over the image's borders."""
    for key in ("nms_pre", "min_bbox_size", "max_per_img"):
        test.get(key)
    nms = test.table("nms")
    nms.only(class_agnostic=False)
    return test.into("YOLOXDecoder", **test.keep(score_threshold="score_thr"), nms_iou=nms_iou(nms), clip=False)


def sim_ota(table: Foreign) -> Part:
    """SimOTAAssigner."""
    table.only(iou_calculator={"type": "BboxOverlaps2D"})
    names = ("center_radius", "candidate_topk", "iou_weight", "cls_weight")
    return table.into("SimOTAAssigner", **table.keep(**{name: name for name in names}))


TRANSLATIONS = {"YOLOXPAFPN": pafpn, "YOLOXHead": yolox_head, "SimOTAAssigner": sim_ota}
