"""COCO's data set and metrics, and what has COCO's files with other classes, by their names in MMDetection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detcore.foreign import Foreign, Part
from detcore_records.mmdet import shared

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip
CITYSCAPES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
DEEPFASHION = (
    "top", "skirt", "leggings", "dress", "outer", "pants", "bag", "neckwear", "headwear", "eyeglass", "belt",
    "footwear", "hair", "skin", "face",
)  # fmt: skip
"""The classes of these data sets, by label."""

METRICS = {"bbox": "bbox", "segm": "segm", "proposal": "proposal", "proposal_fast": "proposal"}
"""Name there -> here."""


def dataset(usual: Sequence[str] | None = None) -> Callable[[Foreign], Part]:
    """The translation of a data set in COCO's files; ``usual`` are its classes, None those of the file."""

    def coco(table: Foreign) -> Part:
        """Flaws are skipped and noted here; there they are skipped."""
        return table.into("CocoDataset", **shared(table, usual).table, invalid="skip", segmentation=segmentation(table))

    return coco


def segmentation(table: Foreign) -> str | None:
    """How masks are read, as who translates the transforms says."""
    value: str | None = table.get("segmentation")
    return value


def metric(table: Foreign) -> Part:
    """CocoMetric. What is counted here follows from the data set; ``ann_file`` is that of the data set."""
    for key in ("ann_file", "backend_args", "file_client_args", "outfile_prefix", "collect_device", "prefix"):
        table.get(key)
    for key in ("classwise", "use_mp_eval", "metric_items"):  # each class has its AP here, each metric its figures
        table.get(key)
    table.only(iou_thrs=None, sort_categories=False, proposal_nums=[100, 300, 1000])
    if table.get("format_only"):
        table.note("format_only", "results are written by `core-run eval --output`; here they are scored too")
    asked = table.get("metric", "bbox")
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in [each for each in names if each not in METRICS]:
        table.lose("metric", f'only {", ".join(METRICS)} have a counterpart, not "{name}"')
    metrics = list(dict.fromkeys(METRICS[name] for name in names if name in METRICS))
    return table.into("CocoEvaluator", metrics=metrics if metrics != ["bbox"] else None)


TRANSLATIONS = {
    "CocoDataset": dataset(COCO),
    "CityscapesDataset": dataset(CITYSCAPES),
    "DeepFashionDataset": dataset(DEEPFASHION),
    "Objects365V1Dataset": dataset(),
    "Objects365V2Dataset": dataset(),
    "V3DetDataset": dataset(),
    "iSAIDDataset": dataset(),
    "CocoMetric": metric,
}
