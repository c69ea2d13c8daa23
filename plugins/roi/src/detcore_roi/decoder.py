"""From regions to detections (Girshick 2015, Fast R-CNN, section 2): score threshold, clipping, NMS."""

from __future__ import annotations

import torch
from detcore.interfaces import RoIDecoder
from detcore.structures import Detections, clip_boxes
from detcore_dense.boxes import larger_than
from detcore_dense.decoders import nms
from torch import Tensor


class RoINMSDecoder(RoIDecoder):
    """Score threshold, clipping, NMS per class, the best of the image.

    A region may give a detection of each class. Of equal scores that of the first region comes first, then that of the
    first class.

    Args:
        score_threshold: A class probability must exceed it.
        nms_iou: A detection goes where its IoU with a better one of its class exceeds this.
        max_detections: At most so many per image; None is all.
        class_agnostic: Detections suppress each other whatever their class.
        min_size: Width and height, clipped, must exceed it, input pixels; None: boxes may be without area.
    """

    def __init__(
        self,
        *,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        max_detections: int | None = 100,
        class_agnostic: bool = False,
        min_size: float | None = None,
    ) -> None:
        super().__init__()
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        self.max_detections = max_detections
        self.class_agnostic = class_agnostic
        self.min_size = min_size

    def forward(self, boxes: Tensor, scores: Tensor, size: Tensor) -> Detections:
        """(R, 4) or (R, C, 4) boxes, (R, C) probabilities, (2,) height and width -> the detections, best first."""
        region, labels = torch.nonzero(scores > self.score_threshold, as_tuple=True)
        scores = scores[region, labels]
        boxes = clip_boxes(boxes[region, labels] if boxes.dim() == 3 else boxes[region], size)
        if self.min_size is not None:
            large = larger_than(boxes, self.min_size)
            boxes, scores, labels = boxes[large], scores[large], labels[large]
        groups = torch.zeros_like(labels) if self.class_agnostic else labels
        kept = nms(boxes, scores, groups, self.nms_iou, self.max_detections)
        return Detections(boxes[kept], scores[kept], labels[kept])
