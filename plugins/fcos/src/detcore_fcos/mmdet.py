"""FCOS by its names in MMDetection."""

from __future__ import annotations

from typing import Any

from detcore.foreign import NONE, Foreign, Part

FOCAL = {"type": "FocalLoss", "use_sigmoid": True}
IOU = {"type": "IoULoss"}
ENTROPY = {"type": "CrossEntropyLoss", "use_sigmoid": True}
"""The losses, where nothing is said there."""
STRIDES = [4, 8, 16, 32, 64]
"""The strides, where nothing is said there; those of the maps must be the same then."""
RANGES = [[-1, 64], [64, 128], [128, 256], [256, 512], [512, 1e8]]
BOX_LOSSES = ("IoULoss", "GIoULoss", "DIoULoss", "CIoULoss")
"""Losses of whole boxes: centerness weighs those alone there."""
START = {
    "type": "Normal",
    "layer": "Conv2d",
    "std": 0.01,
    "override": {"type": "Normal", "name": "conv_cls", "std": 0.01, "bias_prob": 0.01},
}
"""What weights begin with, there and here."""


def fcos_head(head: Foreign) -> Part:
    """FCOSHead and what tests it, as a head and as a region proposal network.

    It assigns by itself there: ``train_cfg``, which some configs have nevertheless, is read by nobody.
    """
    head.wired("in_channels", "strides")
    head.only(cls_predictor_cfg=None, init_cfg=START)
    head.table("bbox_coder").only(type="DistancePointBBoxCoder", clip_border=True, use_box_type=False)
    train = head.table("train_cfg")
    train.read |= {*train.values}
    if "proposal" in head:
        head.get("num_classes")  # it is one, whatever is said
    else:
        head.wired("num_classes")
    if head.get("loss_bbox", IOU).get("type") not in BOX_LOSSES:
        head.lose("loss_bbox", "only losses of whole boxes have a counterpart")
    return head.into(
        "ComposedHead",
        geometry=head.into("Points", strides=None if "strides" in head else STRIDES),
        network=_towers(head),
        assigner=head.into("FCOSAssigner", ranges=_ranges(head), radius=_radius(head)),
        loss={
            "type": "FCOSLoss",
            "loss_cls": head.part("loss_cls", FOCAL),
            "loss_box": head.part("loss_bbox", IOU),
            "loss_centerness": head.part("loss_centerness", ENTROPY),
        },
        decoder=_decoder(head),
    )


def _towers(head: Foreign) -> Part:
    norm = "gn" if head.table("norm_cfg").get("type", "GN") == "GN" else "bn"
    flags = head.keep(
        channels="feat_channels",
        stacked_convs="stacked_convs",
        conv_bias="conv_bias",
        centerness_on_box="centerness_on_reg",
        norm_on_box="norm_on_bbox",
    )
    return head.into(
        "FCOSTowers",
        (r"_convs\.(\d+)\.norm\.", rf"_convs.\1.{norm}."),
        (r"^scales\.(\d+)$", r"scales.\1.scale"),
        **flags,
        norm=NONE if head.get("norm_cfg", {}) is None else head.part("norm_cfg"),
        conv=head.part("conv_cfg"),
        last_conv=_last_conv(head),
    )


def _last_conv(head: Foreign) -> Any:
    if not head.get("dcn_on_last_conv", False):
        return None
    return Foreign({"type": "DCNv2"}, f"{head.path}.dcn_on_last_conv", head.log, head.home).translated()


def _ranges(head: Foreign) -> Any:
    """None where they are as without being said: 100,000,000 is no end that an image reaches."""
    ranges = head.get("regress_ranges", RANGES)
    return None if [list(each) for each in ranges] == RANGES else ranges


def _radius(head: Foreign) -> float | None:
    radius = head.get("center_sample_radius", 1.5)
    return float(radius) if head.get("center_sampling", False) else None


def _decoder(head: Foreign) -> Any:
    """Proposals for training are decoded by settings of their own."""
    decoder = head.part("test_cfg", name="dense test_cfg", quality="centerness")
    proposal = head.table("proposal")
    if decoder is None or not proposal.values:
        return decoder
    train = proposal.translated("dense test_cfg").table
    more = {key: value for key, value in train.items() if key != "type" and decoder.table.get(key) != value}
    return Part({**decoder.table, **({"train": more} if more else {})}, decoder.home)


TRANSLATIONS = {"FCOSHead": fcos_head}
