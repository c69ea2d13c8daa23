"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl

TRANSFORMS = {
    "mosaic": {
        "Mosaic": "Four images around a point (YOLOX, YOLOv4)",
        "MixUp": "The mean of two images with the objects of both (YOLOX)",
    },
    "affine": {"YOLOXRandomAffine": "Scaled, turned, sheared and moved about the top left (YOLOX)"},
    "colors": {
        "YOLOXHSVRandomAug": "Hue, saturation and value, each added to (YOLOX)",
        "PhotoMetricDistortion": "Brightness, contrast, saturation, hue, channels (SSD)",
    },
    "crops": {
        "MinIoURandomCrop": "A part that all objects overlap enough (SSD)",
        "RandomSizeCrop": "A part of given or random size",
        "RandomCenterCropPad": "A part around a random point, which may stand out (CornerNet)",
        "CenterPad": "The image in the middle of a larger canvas (CornerNet)",
    },
    "sizes": {
        "RandomChoiceResize": "One of several sizes",
        "RandomRangeResize": "A size between two, or a size times a random factor",
        "LargeScaleJitter": "A random scale, cut or padded to a size (Ghiasi et al. 2021)",
        "FilterBoxes": "Drops objects by size",
    },
    "copy_paste": {"CopyPaste": "Objects of another image pasted over this one (Ghiasi et al. 2021)"},
}


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    resize = "detcore_transforms.batches:BatchSyncRandomResize"
    return [
        *(
            Component("transform", name, f"detcore_transforms.{module}:{name}", text)
            for module, names in TRANSFORMS.items()
            for name, text in names.items()
        ),
        Component("callback", "BatchSyncRandomResize", resize, "Batches of another size from time to time (YOLOX)"),
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_transforms.mmdet:TRANSLATIONS"}
