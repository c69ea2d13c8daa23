"""Pascal VOC's data set and metric by their names in MMDetection."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from detcore.foreign import Foreign, Part
from detcore_records.mmdet import shared

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def dataset(usual: Sequence[str] | None = None) -> Callable[[Foreign], Part]:
    """The translation of a data set in VOC's files; ``usual`` are its classes where it names none."""

    def voc(table: Foreign) -> Part:
        """Boxes are read as there, a pixel short, so that its weights meet what they were trained on."""
        found = shared(table, usual)
        root = found.prefix.get("sub_data_root") or found.images or found.root or "."
        table.table("filter_cfg").only(bbox_min_size=None)
        folders = {
            "images": table.get("img_subdir", "JPEGImages"),
            "annotations": table.get("ann_subdir", "Annotations"),
        }
        usual_folders = {"images": "JPEGImages", "annotations": "Annotations"}
        return table.into(
            "VOCDataset",
            classes=found.table["classes"],
            root=root,
            split=found.annotations and posixpath.relpath(found.annotations, root),
            **{key: value for key, value in folders.items() if value != usual_folders[key]},
            coordinates="mmdetection",
            invalid="skip",
            keep_empty=found.keep_empty,
        )

    return voc


def metric(table: Foreign) -> Part:
    """VOCMetric."""
    for key in ("collect_device", "prefix"):
        table.get(key)
    table.only(metric="mAP", scale_ranges=None)
    table.get("proposal_nums")  # of recall, which is not asked for
    thresholds = table.get("iou_thrs", 0.5)
    thresholds = list(thresholds) if isinstance(thresholds, list | tuple) else [thresholds]
    if len(thresholds) > 1:
        table.lose("iou_thrs", "one threshold alone has a counterpart: the first")
    area = table.get("eval_mode", "11points") == "area"
    return table.into(
        "VOCEvaluator",
        interpolation=None if area else "11-point",
        iou_threshold=None if thresholds[0] == 0.5 else thresholds[0],
    )


TRANSLATIONS = {"VOCDataset": dataset(CLASSES), "XMLDataset": dataset(), "VOCMetric": metric}
