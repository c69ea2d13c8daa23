"""Test-time augmentation by its name in MMDetection 3.x.

Beside its own keys the table has three that the reader of configs adds: ``flips`` and ``scales``, which a pipeline of
transforms says there, and ``preprocess``, ours.
"""

from __future__ import annotations

from detcore.foreign import Foreign, Part


def views(table: Foreign) -> Part:
    """DetTTAModel: detections of all views, of which those that overlap less than each other stay."""
    table.only(module=None, data_preprocessor=None)
    settings, about = table.table("tta_cfg"), table.get("preprocess", {})
    nms = settings.table("nms")
    nms.only(type="nms")
    pad = float(about.get("pad_value", 0.0))
    if about.get("pad") == "before":  # what stands in the padding is normalised, too
        levels = [(pad - mean) / std for mean, std in zip(about["mean"], about["std"], strict=True)]
        pad_value = levels[0] if len({*levels}) == 1 else levels
    else:
        pad_value = pad
    threshold, divisor = nms.get("iou_threshold", 0.5), about.get("divisor", 32)
    return table.into(
        "TTA",
        flips=table.get("flips"),
        scales=table.get("scales"),
        merger={"type": "NMSMerger", **({} if threshold == 0.5 else {"iou_threshold": threshold})},
        most=None if settings.get("max_per_img", 100) == 100 else settings.get("max_per_img"),
        divisor=None if divisor == 32 else divisor,
        pad_value=pad_value or None,
    )


TRANSLATIONS = {"DetTTAModel": views}
