"""Masks between a detector's small squares, bitmaps of the image's size, and COCO's run lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def paste(mask: Tensor, box: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Mask probabilities (h, w) inside a box (4,), as a bitmap (H, W) bool of the image.

    A pixel is set where the probability at its centre, bilinear between the centres of the mask's cells and constant
    beyond the outer ones, reaches the threshold.
    """
    height, width = size
    bitmap = torch.zeros(height, width, dtype=torch.bool)
    low, high = box[:2].floor().clamp(min=0).int().tolist(), box[2:].ceil().int().tolist()
    right, bottom = min(high[0], width), min(high[1], height)
    if right <= low[0] or bottom <= low[1]:
        return bitmap
    sides = (box[2:] - box[:2]).clamp(min=1e-6)
    x = (torch.arange(low[0], right) + 0.5 - box[0]) / sides[0] * 2 - 1
    y = (torch.arange(low[1], bottom) + 0.5 - box[1]) / sides[1] * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    sampled = F.grid_sample(mask[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    within = (x.abs() <= 1) & (y.abs() <= 1)[:, None]
    bitmap[low[1] : bottom, low[0] : right] = (sampled >= threshold) & within
    return bitmap


def encode(bitmap: Tensor) -> dict[str, Any]:
    """A bitmap (H, W) as COCO's JSON has masks: ``{"size": [H, W], "counts": text}``.

    The text holds the lengths of runs, column by column and background first, each from the third on as the difference
    to the one of its colour before it, in characters of five bits (COCO's ``maskApi.c``, ``rleToString``).
    """
    flat = bitmap.bool().T.flatten()
    ends = (flat[1:] != flat[:-1]).nonzero().flatten() + 1
    runs = torch.diff(ends, prepend=ends.new_zeros(1), append=ends.new_full((1,), len(flat))).tolist()
    runs = [0, *runs] if len(flat) and flat[0] else runs
    steps = [run - runs[place - 2] if place > 2 else run for place, run in enumerate(runs)]
    return {"size": list(bitmap.shape), "counts": "".join(map(_characters, steps))}


def _characters(value: int) -> str:
    """A signed number, least significant five bits first; the sixth bit says that more follow."""
    text = ""
    while True:
        bits, value = value & 31, value >> 5
        more = value != (-1 if bits & 16 else 0)
        text += chr(48 + bits + 32 * more)
        if not more:
            return text
