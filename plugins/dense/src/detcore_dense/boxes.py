"""Plain functions of boxes xyxy."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """``x`` in float32 at least: half precision is too coarse for pixels."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def areas(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...) square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., P, 4), (..., G, 4) -> (..., P, G) square pixels that both cover."""
    left, top, right, bottom = boxes[..., :, None, :].unbind(-1)
    other_left, other_top, other_right, other_bottom = others[..., None, :, :].unbind(-1)
    width = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp(min=0)
    height = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp(min=0)
    return width * height


def pairwise_iou(boxes: Tensor, others: Tensor, eps: float = 1e-6) -> Tensor:
    """(..., P, 4), (..., G, 4) -> (..., P, G) intersection over union; 0 where both are without area."""
    inside = pairwise_intersection(boxes, others)
    union = areas(boxes)[..., :, None] + areas(others)[..., None, :] - inside
    return inside / union.clamp(min=eps)


def larger_than(boxes: Tensor, side: float) -> Tensor:
    """(..., 4) -> (...) bool: width and height both exceed ``side`` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) > side).all(-1)
