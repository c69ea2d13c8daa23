"""Soft-NMS (Bodla et al. 2017) in plain torch, all images of a batch at once."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    max_detections: int = 100,
) -> tuple[Tensor, Tensor]:
    """Take the best box, lower the scores of its class's others by ``exp(-IoU^2 / sigma)``, and so on.

    Scores only ever fall, so the first ``max_detections`` taken are the best of all. The device is not waited for.

    Args:
        boxes: (B, N, 4), xyxy.
        scores: (B, N), at least 0; a row that is no candidate has a negative one.
        labels: (B, N).
        sigma: Width of the Gaussian.
        min_score: Boxes that fall below it are not taken.
        max_detections: How many are taken at most.

    Returns:
        The rows taken (B, M), best first, and their scores (B, M); -1 where an image has no more.
    """
    rows, taken, current = [], [], scores.clone()
    for _ in range(min(max_detections, scores.shape[1])):
        score, row = current.max(1, keepdim=True)
        box = boxes.gather(1, row[..., None].expand(-1, -1, 4))
        overlap = iou(box, boxes).where(labels.gather(1, row) == labels, 0)
        rows.append(row)
        taken.append(score.where(score >= min_score, -1))
        current = current.where(current < 0, current * torch.exp(-(overlap**2) / sigma)).scatter(1, row, -1)
    if not rows:
        return labels.new_zeros(len(labels), 0), scores.new_zeros(len(scores), 0)
    return torch.cat(rows, 1), torch.cat(taken, 1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (...) of boxes (..., 4) with boxes (..., 4), broadcast; 0 where both are empty."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    inside = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    return inside / union.clamp(min=torch.finfo(a.dtype).tiny)
