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
    left, top, right, bottom = (side[..., :, None] for side in _sides(boxes))
    other_left, other_top, other_right, other_bottom = (side[..., None, :] for side in _sides(others))
    width = torch.minimum(right, other_right).sub_(torch.maximum(left, other_left)).clamp_(min=0)
    height = torch.minimum(bottom, other_bottom).sub_(torch.maximum(top, other_top)).clamp_(min=0)
    return width.mul_(height)  # in place: pairs are many, and memory that was just used is near


def pairwise_iou(boxes: Tensor, others: Tensor, eps: float = 1e-6) -> Tensor:
    """(..., P, 4), (..., G, 4) -> (..., P, G) intersection over union; 0 where both are without area."""
    inside = pairwise_intersection(boxes, others)
    union = (areas(boxes)[..., :, None] + areas(others)[..., None, :]).sub_(inside).clamp_(min=eps)
    return inside.div_(union)


def _sides(boxes: Tensor) -> tuple[Tensor, ...]:
    """(..., N, 4) -> left, top, right and bottom, (..., N) in one piece each, as they are read."""
    return boxes.transpose(-1, -2).contiguous().unbind(-2)


def larger_than(boxes: Tensor, side: float) -> Tensor:
    """(..., 4) -> (...) bool: width and height both exceed ``side`` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) > side).all(-1)
