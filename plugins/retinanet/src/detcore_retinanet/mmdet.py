"""RetinaNet by its names in MMDetection."""

from __future__ import annotations

from detcore.foreign import Foreign, Part

BINNED = {"GHMC", "GHMR"}
"""Losses that are another number where levels are read one by one, as there."""


def retina_head(head: Foreign) -> Part:
    """RetinaHead and what trains and tests it."""
    head.wired("in_channels", "num_classes")
    head.only(conv_cfg=None)
    train = head.table("train_cfg")
    train.only(pos_weight=-1, debug=False)
    binned = {head.table(loss).get("type") for loss in ("loss_cls", "loss_bbox")} & BINNED
    return head.into(
        "ComposedHead",
        geometry=head.part("anchor_generator", coder=head.table("bbox_coder"), border=train.get("allowed_border", -1)),
        network=head.into(
            "RetinaTowers",
            (r"^(cls|box)\.", r"retina_\1."),
            (r"^(retina_)?box", r"\1reg"),
            (
                r"_convs\.(\d+)\.norm\.",
                r"_convs.\1.gn." if head.table("norm_cfg").get("type") == "GN" else r"_convs.\1.bn.",
            ),
            **head.keep(stacked_convs="stacked_convs", feat_channels="feat_channels"),
            norm=head.part("norm_cfg"),
        ),
        assigner=train.part("assigner"),
        sampler=train.part("sampler"),
        loss={
            "type": "DenseBoxLoss",
            "loss_cls": head.part("loss_cls"),
            "loss_box": head.part("loss_bbox"),
            **({"per_level": True} if binned else {}),
        },
        decoder=head.part("test_cfg", name="dense test_cfg"),
    )


TRANSLATIONS = {"RetinaHead": retina_head}
