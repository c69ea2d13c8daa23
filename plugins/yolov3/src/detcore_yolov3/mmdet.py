"""YOLOv3 by its names in MMDetection, where the deepest level comes first in every list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detcore.foreign import NONE, Foreign, Part
from detcore_darknet.mmdet import layers, norm_names
from detcore_dense.mmdet import nms_iou

WIDTHS = [1024, 512, 256]
STRIDES = [32, 16, 8]
SIZES = [[[116, 90], [156, 198], [373, 326]], [[30, 61], [62, 45], [59, 119]], [[10, 13], [16, 30], [33, 23]]]
ANCHORS = {"type": "YOLOAnchorGenerator", "base_sizes": SIZES, "strides": STRIDES}
ENTROPY = {"type": "CrossEntropyLoss", "use_sigmoid": True}
SQUARES = {"type": "MSELoss"}
"""What is taken where nothing is said there."""
CONVS = 5
"""Of a block of the neck."""


def neck(table: Foreign) -> Part:
    """YOLOV3Neck."""
    table.wired("num_scales", "in_channels")
    table.only(init_cfg=None)
    outs = list(table.get("out_channels"))
    detect = [
        (rf"^detect\.{level}\.{conv}\.", f"detect{level + 1}.conv{conv + 1}.")
        for level in range(len(outs))
        for conv in range(CONVS)
    ]
    reduce = [(rf"^reduce\.{level}\.", f"conv{level + 1}.") for level in range(len(outs) - 1)]
    return table.into("YOLOV3Neck", *detect, *reduce, norm_names(table), out_channels=outs[::-1], **layers(table))


def yolov3_head(head: Foreign) -> Part:
    """YOLOV3Head and what trains and tests it."""
    head.wired("num_classes", "featmap_strides")
    head.only(one_hot_smoother=0)
    head.table("bbox_coder").only(type="YOLOBBoxCoder", eps=1e-6, use_box_type=False)
    train = head.table("train_cfg")
    train.table("sampler").only(type="PseudoSampler")
    return head.into(
        "ComposedHead",
        geometry=head.part("anchor_generator", ANCHORS, flow=None if "featmap_strides" in head else STRIDES),
        network=_towers(head),
        assigner=train.part("assigner"),
        loss={
            "type": "YOLOV3Loss",
            "loss_cls": _loss(head, "loss_cls", ENTROPY),
            "loss_conf": _loss(head, "loss_conf", ENTROPY),
            "loss_xy": _loss(head, "loss_xy", ENTROPY),
            "loss_wh": _loss(head, "loss_wh", SQUARES),
        },
        decoder=_decoder(head.table("test_cfg")),
    )


def _towers(head: Foreign) -> Part:
    """The convolution before the last one has twice the channels that come in, in the zoo's Darknet-53."""
    widths, inner = head.get("in_channels"), head.get("out_channels", WIDTHS)
    if list(inner) != [2 * width for width in widths]:
        head.lose("out_channels", "only twice in_channels has a counterpart")
    deepest = len(widths) - 1
    levels = [(rf"^(bridge|predict)\.{level}\.", rf"convs_\1.{deepest - level}.") for level in range(len(widths))]
    return head.into("YOLOV3Towers", *levels, (r"^convs_predict\.", "convs_pred."), norm_names(head), **layers(head))


def _loss(head: Foreign, key: str, usual: Mapping[str, Any]) -> Any:
    """A loss: a sum over all levels. Means, which are of one level each there, would be another number."""
    part, table = head.part(key, usual), head.table(key)
    if table.get("reduction", "mean") != "sum":
        table.lose("reduction", "only 'sum' has a counterpart: others are taken level by level there")
    return part


def _decoder(test: Foreign) -> Part:
    """``test_cfg``; boxes may reach over the image's borders there."""
    if test.get("min_bbox_size", 0) > 0:
        test.lose("min_bbox_size", "boxes of every size are detections here")
    nms, limit = test.table("nms"), test.get("nms_pre", -1)
    nms.only(class_agnostic=False)
    return test.into(
        "YOLOV3Decoder",
        conf_threshold=max(float(test.get("conf_thr", -1)), 0.0),
        score_threshold=test.get("score_thr", 0.0),
        nms_pre=NONE if limit < 0 else limit,
        nms_iou=nms_iou(nms),
        max_detections=test.get("max_per_img"),
        clip=False,
    )


def anchors(table: Foreign) -> Part:
    """YOLOAnchorGenerator. ``flow`` is what the head says of strides where its config does not."""
    table.wired("strides")
    table.only(use_box_type=False)
    sizes = [[_pair(size) for size in level] for level in table.get("base_sizes")]
    strides = table.get("flow")
    return table.into(
        "YOLOAnchors",
        base_sizes=None if sizes == SIZES else sizes[::-1],
        strides=None if strides is None else strides[::-1],
    )


def _pair(size: Any) -> list[Any]:
    return list(size) if isinstance(size, list | tuple) else [size, size]


def grid_assigner(table: Foreign) -> Part:
    """GridAssigner."""
    table.only(gt_max_assign_all=True, iou_calculator={"type": "BboxOverlaps2D"})
    keys = table.keep(pos_iou="pos_iou_thr", neg_iou="neg_iou_thr", min_pos_iou="min_pos_iou")
    return table.into("GridAssigner", **keys)


TRANSLATIONS = {
    "YOLOV3Neck": neck,
    "YOLOV3Head": yolov3_head,
    "YOLOAnchorGenerator": anchors,
    "GridAssigner": grid_assigner,
}
