"""Masks between a detector's small squares, bitmaps of the image's size, and COCO's run lengths."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def paste(mask: Tensor, box: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Mask probabilities (h, w) inside a box (4,), as a bitmap (H, W) bool of the image; see :func:`cut`."""
    bitmap = torch.zeros(size, dtype=torch.bool)
    patch, (top, left) = cut(mask, box, size, threshold)
    bitmap[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return bitmap


def cut(mask: Tensor, box: Tensor, size: tuple[int, int], threshold: float = 0.5) -> tuple[Tensor, tuple[int, int]]:
    """Mask probabilities (h, w) inside a box (4,), as a bitmap of the part of the image that the box is in.

    A pixel is set where the probability at its centre, bilinear between the centres of the mask's cells, which zeros
    surround, reaches the threshold.

    Args:
        mask: Fills the box.
        box: In pixels of the image.
        size: Height and width of the image.
        threshold: A probability.

    Returns:
        The bitmap, bool, and its top and left in the image.
    """
    (left, top), (right, bottom) = box[:2].floor().clamp(min=0).int().tolist(), box[2:].ceil().int().tolist()
    rows = torch.arange(top, max(top, min(bottom, size[0])))
    columns = torch.arange(left, max(left, min(right, size[1])))
    of_rows = _between(F.pad(mask, (1, 1, 1, 1)), rows, box[1], box[3])
    probabilities = _between(of_rows.T, columns, box[0], box[2]).T
    return probabilities >= threshold, (top, left)


def _between(cells: Tensor, pixels: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Values (N, K) at the centres of N pixels, of cells (2 + M, K): from ``begin`` to ``end`` there are M of them."""
    inner = len(cells) - 2
    at = ((pixels + 0.5 - begin) / (end - begin).clamp(min=1e-6) * inner + 0.5).clamp(0, inner + 1)
    low = at.floor().clamp(max=inner).long()
    return torch.lerp(cells[low], cells[low + 1], (at - low)[:, None])


def encode(bitmap: Tensor, size: tuple[int, int] | None = None, corner: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """A bitmap as COCO's JSON has masks: ``{"size": [H, W], "counts": text}``.

    The text holds the lengths of runs, column by column and background first, each from the third on as the difference
    to the one of its colour before it, in characters of five bits (COCO's ``maskApi.c``, ``rleToString``).

    Args:
        bitmap: Of the image, or of the part of it outside of which nothing is set.
        size: Height and width of the image; None is the bitmap's.
        corner: Top and left of the part.
    """
    height, width = size or bitmap.shape
    edges = F.pad(bitmap.bool().T, (1, 1)).diff()  # (columns, rows + 1): where a run begins or is over
    column, row = edges.nonzero(as_tuple=True)
    places, times = torch.unique_consecutive((column + corner[1]) * height + row + corner[0], return_counts=True)
    ends = places[times == 1]  # a run that goes on at the next column's top is not over
    borders = [0, *ends.tolist()]
    if len(borders) == 1 or borders[-1] < height * width:
        borders.append(height * width)
    runs = [end - begin for begin, end in pairwise(borders)]
    steps = [run - runs[place - 2] if place > 2 else run for place, run in enumerate(runs)]
    return {"size": [height, width], "counts": "".join(map(_characters, steps))}


def _characters(value: int) -> str:
    """A signed number, least significant five bits first; the sixth bit says that more follow."""
    text = ""
    while True:
        bits, value = value & 31, value >> 5
        more = value != (-1 if bits & 16 else 0)
        text += chr(48 + bits + 32 * more)
        if not more:
            return text
