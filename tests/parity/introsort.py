"""An RPN's decoder whose equal scores stand in the order in which the reference's sorting happened to leave them.

There, objectness is a sigmoid in float32, which is exactly 1 for every logit above 17: hundreds of equal scores, of which
a level keeps 200. They are sorted by torch's ``sort`` without ``stable``, which on a CPU was the C++ library's introsort
(Musser 1997: quicksort on the median of three, then one insertion sort), so it is the pivots that choose. Our decoder
compares logits, which do not tie; this one is for comparing all that comes after the proposals.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detcore.structures import Batch, Detections, Predictions, clip_boxes
from detcore_dense.decoders import RPNDecoder
from torch import Tensor
from torchvision.ops import box_iou

SMALL = 16
"""Parts of so few numbers are left to the insertion sort at the end."""


def descending(values: Sequence[float]) -> list[int]:
    """The numbers of the values, best first, as an introsort without its limit of depth leaves them."""
    rows = [*range(len(values))]
    parts = [(0, len(rows))]
    while parts:
        start, end = parts.pop()
        while end - start > SMALL:
            cut = _partition(rows, values, start, end)
            parts.append((cut, end))
            end = cut
    for unsorted in range(1, len(rows)):
        row, place = rows[unsorted], unsorted
        while place and values[row] > values[rows[place - 1]]:
            rows[place] = rows[place - 1]
            place -= 1
        rows[place] = row
    return rows


def _partition(rows: list[int], values: Sequence[float], start: int, end: int) -> int:
    """Moves the median of three to the start, then what is better than it to the left; where the right part begins."""
    median = _median(rows, values, start + 1, (start + end) // 2, end - 1)
    rows[start], rows[median] = rows[median], rows[start]
    pivot = values[rows[start]]
    left, right = start + 1, end
    while True:
        while values[rows[left]] > pivot:
            left += 1
        right -= 1
        while pivot > values[rows[right]]:
            right -= 1
        if left >= right:
            return left
        rows[left], rows[right] = rows[right], rows[left]
        left += 1


def _median(rows: list[int], values: Sequence[float], *places: int) -> int:
    """The place of the median of three; which of equals, is part of the algorithm."""
    first, middle, last = (values[rows[place]] for place in places)
    if first > middle:
        number = 1 if middle > last else 2 if first > last else 0
    else:
        number = 0 if first > last else 2 if middle > last else 1
    return places[number]


class ReferenceOrder(RPNDecoder):
    """As the decoder it is made from, but for the order of equals."""

    def __init__(self, decoder: RPNDecoder) -> None:
        super().__init__()
        self.settings, self.train_settings = decoder.settings, decoder.train_settings

    def forward(self, predictions: Predictions, batch: Batch, *, train: bool = False) -> list[Detections]:
        scores = predictions.flat("cls")[..., 0].detach().sigmoid()
        return [self._of_image(image, scores[image], predictions, batch, train) for image in range(len(batch))]

    def _of_image(self, image: int, scores: Tensor, predictions: Predictions, batch: Batch, train: bool) -> Detections:
        settings, start, chosen = self.train_settings if train else self.settings, 0, []
        for size in predictions.priors.per_level:
            sorts = settings.nms_pre is not None and size > settings.nms_pre
            best = descending(scores[start : start + size].tolist()) if sorts else range(size)
            chosen += [start + row for row in best][: settings.nms_pre]
            start += size
        index = torch.tensor(chosen)
        rows = index.expand(len(batch), -1)
        boxes = clip_boxes(predictions.boxes(rows).detach()[image], batch.sizes[image])
        there = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        boxes, scores, level = boxes[there], scores[index[there]], predictions.priors.level[index[there]]
        overlap = (box_iou(boxes, boxes) > settings.nms_iou) & (level[:, None] == level)
        gone = torch.zeros_like(level, dtype=torch.bool)
        kept: list[int] = []
        for row in descending(scores.tolist()):
            if not gone[row]:
                kept.append(row)
                gone |= overlap[row]
        kept = kept[: settings.max_proposals]
        return Detections(boxes[kept], scores[kept], torch.zeros_like(level[kept]))
