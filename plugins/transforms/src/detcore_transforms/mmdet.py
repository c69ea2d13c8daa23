"""Transforms by their names in MMDetection 3.x: sizes are (width, height) there and (height, width) here.

Beside its own keys a table has two that the reader of pipelines adds: ``others``, what other images go through before
they are mixed in, and ``before``, the transforms that stand before it.
"""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part

CLIPS = ("clip_object_border", "bbox_clip_border")
"""Whether boxes are cut at the image's border: here they are, or Sanitize looks at what is inside."""
IGNORED = ("backend", "interpolation", "resize_type", "resize_cfg", "use_cached")


def resize(table: Foreign) -> Part | None:
    """Resize. With ``keep_ratio`` sizes are rounded as there; torchvision's Resize rounds down."""
    _border(table)
    if "scale_factor" in table:
        table.lose("scale_factor", "sizes have a counterpart, factors have none")
        return None
    scale = table.get("scale")
    if not isinstance(scale, list) or len(scale) != 2 or isinstance(scale[0], list):
        table.lose("scale", "two numbers were expected")
        return None
    if table.get("keep_ratio", False):
        return table.into("RandomChoiceResize", sizes=[_limits(scale)], antialias=False)
    return table.into("Resize", size=_turned(scale), antialias=False)


def choice_resize(table: Foreign) -> Part:
    """RandomChoiceResize."""
    _border(table)
    ratio = table.get("keep_ratio", table.table("resize_cfg").get("keep_ratio", False))
    scales = table.get("scales", [])
    sizes = [_limits(each) if ratio else _turned(each) for each in scales]
    return table.into("RandomChoiceResize", sizes=sizes, keep_ratio=None if ratio else False, antialias=False)


def random_resize(table: Foreign) -> Part:
    """RandomResize: between two sizes, or one size times a random factor."""
    _border(table)
    ratio = table.get("keep_ratio", table.table("resize_cfg").get("keep_ratio", False))
    scale, factors = table.get("scale"), table.get("ratio_range")
    first, second = (scale, scale) if not isinstance(scale[0], list) else scale
    order = _limits if ratio else _turned
    keys: dict[str, Any] = {"keep_ratio": None if ratio else False, "antialias": False}
    if first == second:
        return table.into("RandomRangeResize", least=order(first), ratio=factors, **keys)
    pairs = [*zip(order(first), order(second), strict=True)]
    return table.into(
        "RandomRangeResize", least=[min(pair) for pair in pairs], most=[max(pair) for pair in pairs], **keys
    )


def mosaic(table: Foreign) -> Part:
    """Mosaic, and CachedMosaic, which takes others from those that were read last."""
    _border(table)
    _cached(table)
    return table.into(
        "Mosaic",
        size=_turned(table.get("img_scale", [640, 640])),
        fill=_grey(table),
        centre=_unless(table, "center_ratio_range", [0.5, 1.5]),
        p=_unless(table, "prob", 1.0),
        transforms=table.get("others") or None,
    )


def mixup(table: Foreign) -> Part:
    """MixUp, and CachedMixUp, which takes others as they are at its place of the pipeline."""
    _border(table)
    cached = _cached(table)
    return table.into(
        "MixUp",
        size=_turned(table.get("img_scale", [640, 640])),
        ratio=table.get("ratio_range", [0.5, 1.5]),
        flip=_unless(table, "flip_ratio", 0.5),
        fill=_grey(table),
        tries=_unless(table, "max_iters", 15),
        p=_unless(table, "prob", 1.0),
        transforms=(table.get("before") if cached else table.get("others")) or None,
    )


def affine(table: Foreign) -> Part:
    """RandomAffine."""
    _border(table)
    fills = table.get("border_val", [114, 114, 114])
    grey = int(fills[0] if isinstance(fills, list) else fills)
    return table.into(
        "YOLOXRandomAffine",
        degrees=_unless(table, "max_rotate_degree", 10.0),
        translate=_unless(table, "max_translate_ratio", 0.1),
        scale=table.get("scaling_ratio_range", [0.5, 1.5]),
        shear=_unless(table, "max_shear_degree", 2.0),
        border=_turned(table.get("border", [0, 0])),
        fill=None if grey == 114 else grey,
    )


def hsv(table: Foreign) -> Part:
    """YOLOXHSVRandomAug."""
    names = {f"{name}_delta": f"{name}_delta" for name in ("hue", "saturation", "value")}
    return table.into("YOLOXHSVRandomAug", **table.keep(**names))


def photometric(table: Foreign) -> Part:
    """PhotoMetricDistortion."""
    names = ("brightness_delta", "contrast_range", "saturation_range", "hue_delta")
    return table.into("PhotoMetricDistortion", **table.keep(**{name: name for name in names}))


def min_iou_crop(table: Foreign) -> Part:
    """MinIoURandomCrop."""
    _border(table)
    return table.into("MinIoURandomCrop", **table.keep(min_ious="min_ious", min_crop_size="min_crop_size"))


def crop(table: Foreign) -> Part:
    """RandomCrop. Where no object is left, others are tried here; there the image is not used."""
    _border(table)
    kind, size = table.get("crop_type", "absolute"), table.get("crop_size")
    if table.get("recompute_bbox", False):
        table.note("recompute_bbox", "boxes are cut, not drawn anew around what is left of masks")
    return table.into(
        "RandomSizeCrop",
        size=_turned(size) if kind == "absolute" else size,
        kind=None if kind == "absolute" else kind,
        allow_empty=True if table.get("allow_negative_crop", False) else None,
    )


def center_crop_pad(table: Foreign) -> Any:
    """RandomCenterCropPad; in tests, where it only pads, what pads here stands in ``[preprocess]``."""
    _border(table)
    mean, rgb = table.get("mean"), table.get("to_rgb")
    table.get("std")
    mode, extra = table.get("test_pad_mode"), table.get("test_pad_add_pix", 0)
    if not table.get("test_mode", False):
        fill = [round(each) for each in (mean if rgb else mean[::-1])]
        keys = {"size": _turned(table.get("crop_size")), "ratios": table.get("ratios", [0.9, 1.0, 1.1]), "fill": fill}
        return table.into("RandomCenterCropPad", **keys, border=table.get("border", 128))
    for key in ("crop_size", "ratios", "border"):
        table.get(key)
    divisor = mode[1] + 1 if mode[0] == "logical_or" else mode[1]
    how = "in the middle of a larger canvas there; here padding is at the bottom and right"
    table.note("test_pad_mode", how if not extra else f"{how}, and without {extra} pixels more")
    return {"preprocess": {"divisor": divisor}}


def copy_paste(table: Foreign) -> Part:
    """CopyPaste."""
    table.only(selected=True, paste_by_box=False)
    return table.into(
        "CopyPaste",
        **table.keep(most="max_num_pasted", box_threshold="bbox_occluded_thr", mask_threshold="mask_occluded_thr"),
        transforms=table.get("others") or None,
    )


def filtered(table: Foreign) -> Part:
    """FilterAnnotations. What has no object left stays here."""
    table.only(by_mask=False, min_gt_mask_area=1)
    if not table.get("by_box", True):
        table.lose("by_box", "objects go by the size of their boxes")
    if not table.get("keep_empty", True):
        table.note("keep_empty", "an image of which no object is left stays; there another one takes its place")
    width, height = table.get("min_gt_bbox_wh", [1.0, 1.0])
    if float(width) == float(height) == 1.0:
        return table.into("Sanitize")
    return table.into("FilterBoxes", min_width=float(width), min_height=float(height))


def random_sizes(table: Foreign) -> dict[str, Any]:
    """BatchSyncRandomResize, which is a part of the model there."""
    names = ("random_size_range", "interval", "size_divisor")
    usual = {"interval": 10, "size_divisor": 32}
    keys = {
        key: value for key, value in table.keep(**{name: name for name in names}).items() if usual.get(key) != value
    }
    return {"callbacks": {"sizes": {"type": "BatchSyncRandomResize", **keys}}}


def fixed_size(table: Foreign) -> None:
    """BatchFixedSizePad: padding that nothing is read from."""
    for key in ("size", "img_pad_value", "pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value"):
        table.get(key)
    table.note("size", "batches of training are padded to their largest image; [preprocess].size pads all to one")


def _limits(scale: list[int]) -> list[int]:
    """What the shorter and the longer side may have."""
    return sorted(int(side) for side in scale)


def _turned(pair: list[Any]) -> list[Any]:
    """(width, height) as (height, width); one number is both."""
    return [pair[1], pair[0]] if isinstance(pair, list) else [pair, pair]


def _grey(table: Foreign) -> int | None:
    value = table.get("pad_val", 114)
    return None if value == 114 else int(value)


def _unless(table: Foreign, key: str, usual: Any) -> Any:
    """The value of a key; None where it is what it is here without being said."""
    value = table.get(key, usual)
    return None if value == usual else value


def _border(table: Foreign) -> None:
    for key in (*CLIPS, *IGNORED):
        table.get(key)


def _cached(table: Foreign) -> bool:
    """Whether it is one of the transforms that keep images; that is what CachedDataset does here."""
    cached = str(table.get("type")).startswith("Cached")
    for key in ("max_cached_images", "random_pop"):
        table.get(key)
    if cached:
        table.note("type", "other images are any of the data set, not of those that were read last")
    return cached


TRANSLATIONS = {
    "Resize": resize,
    "FixScaleResize": resize,
    "RandomChoiceResize": choice_resize,
    "RandomResize": random_resize,
    "Mosaic": mosaic,
    "CachedMosaic": mosaic,
    "MixUp": mixup,
    "CachedMixUp": mixup,
    "RandomAffine": affine,
    "YOLOXHSVRandomAug": hsv,
    "PhotoMetricDistortion": photometric,
    "MinIoURandomCrop": min_iou_crop,
    "RandomCrop": crop,
    "RandomCenterCropPad": center_crop_pad,
    "CopyPaste": copy_paste,
    "FilterAnnotations": filtered,
    "BatchSyncRandomResize": random_sizes,
    "BatchFixedSizePad": fixed_size,
}
