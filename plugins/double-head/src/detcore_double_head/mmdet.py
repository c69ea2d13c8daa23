"""Double-Head R-CNN by its names in MMDetection.

Its RoI head there is the standard one with a factor, which is the box head's here.
"""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part


def double_roi_head(head: Foreign) -> Any:
    """DoubleHeadRoIHead."""
    head.table("bbox_head").values["reg_roi_scale_factor"] = head.get("reg_roi_scale_factor")
    return head.translated(type="StandardRoIHead")


def double_head(table: Foreign) -> Part:
    """DoubleConvFCBBoxHead, beside what the stage reads of it."""
    table.only(with_avg_pool=True, with_cls=True, with_reg=True, conv_cfg=None)
    linear = {"type": "Linear"}
    table.only(cls_predictor_cfg=linear, reg_predictor_cfg=linear)
    norm = "gn" if table.table("norm_cfg").get("type") == "GN" else "bn"
    return table.into(
        "DoubleHead",
        (r"^widen\.shortcut\.", "res_block.conv_identity."),
        (r"^widen\.", "res_block."),
        (r"^(res_block\.\w+)\.norm\.", rf"\1.{norm}."),
        (r"^convs\.(\d+)\.bn(\d)\.", rf"convs.\1.{norm}\2."),
        (r"^convs\.", "conv_branch."),
        (r"^fcs\.", "fc_branch."),
        (r"^cls\.", "fc_cls."),
        (r"^box\.", "fc_reg."),
        num_convs=table.get("num_convs", 0),
        num_fcs=table.get("num_fcs", 0),
        **table.keep(
            conv_channels="conv_out_channels", fc_channels="fc_out_channels", box_scale="reg_roi_scale_factor"
        ),
        norm=table.part("norm_cfg"),
    )


TRANSLATIONS = {"DoubleHeadRoIHead": double_roi_head, "DoubleConvFCBBoxHead": double_head}
