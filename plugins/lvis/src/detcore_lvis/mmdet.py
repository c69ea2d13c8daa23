"""LVIS's data set and metrics by their names in MMDetection."""

from __future__ import annotations

from detcore.foreign import Foreign, Part
from detcore_coco.mmdet import segmentation
from detcore_records.mmdet import shared


def dataset(table: Foreign) -> Part:
    """LVISV1Dataset and LVISV05Dataset; their classes are those of the file."""
    return table.into("LVISDataset", **shared(table).table, invalid="skip", segmentation=segmentation(table))


def metric(table: Foreign) -> Part:
    """LVISMetric."""
    for key in ("ann_file", "backend_args", "file_client_args", "outfile_prefix", "collect_device", "prefix"):
        table.get(key)
    table.get("metric_items")
    table.only(iou_thrs=None, format_only=False, proposal_nums=[100, 300, 1000])
    asked = table.get("metric", "bbox")
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in [each for each in names if each not in ("bbox", "segm")]:
        table.lose("metric", f'only bbox and segm have a counterpart, not "{name}"')
    return table.into(
        "LVISEvaluator",
        metrics=[name for name in names if name in ("bbox", "segm")],
        per_class=True if table.get("classwise") else None,
    )


TRANSLATIONS = {"LVISV1Dataset": dataset, "LVISV05Dataset": dataset, "LVISDataset": dataset, "LVISMetric": metric}
