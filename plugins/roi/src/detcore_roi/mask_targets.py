"""What a mask should be inside a region, at the size that a loss compares; from bitmaps or from outlines.

Outlines stay points until here: nothing is rasterised at the image's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detcore.structures import Polygons, Targets
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from detcore_roi.extractor import NOWHERE

ELEMENTS = 2**22
"""The most pixels of bitmaps, or edges times rows, that are worked on at once: a hundred megabytes."""


@torch.compiler.disable  # type: ignore[untyped-decorator]  # as many as there are
@torch.no_grad()
def mask_targets(rois: Tensor, index: Tensor, truth: Targets, side: int) -> Tensor:
    """(R, 5) regions and (R,) the row of each one's object in its image -> (R, S, S) float32, 0 or 1.

    A cell is 1 where half of it or more lies in the bitmap, or its centre within an outline, of the object.

    Args:
        rois: Image, x1, y1, x2, y2.
        index: Rows of the targets; not negative.
        truth: Has masks.
        side: S.
    """
    masks, objects = truth.masks or (), truth.boxes.shape[1]
    image = rois[:, 0].long()
    outlines = [(number * objects, each) for number, each in enumerate(masks) if isinstance(each, Polygons)]
    found = torch.zeros(len(rois), side, side, dtype=torch.bool, device=rois.device)
    if outlines:
        found = inside_outlines(rois[:, 1:], image * objects + index, joined(outlines), len(masks) * objects, side)
    for number, each in enumerate(masks):
        if isinstance(each, Tensor):
            found = found | inside_bitmaps(rois[:, 1:], torch.where(image == number, index, -1), each, side)
    return found.float()


# ----------------------------------------------------------------------------------------------------------- bitmaps


def inside_bitmaps(boxes: Tensor, index: Tensor, masks: Tensor, side: int) -> Tensor:
    """RoIAlign (He et al. 2017, section 3) of each region's own bitmap, at least a half: (R, S, S) bool.

    Args:
        boxes: (R, 4).
        index: (R,) into the bitmaps; of regions that have none here, -1.
        masks: (G, H, W), 0 or 1.
        side: S.
    """
    share = boxes.new_zeros(len(boxes), side, side)
    step = max(1, ELEMENTS // max(1, masks[:1].numel()))
    for first in range(0, len(masks), step):
        some = masks[first : first + step, None].to(boxes.dtype)
        here = (index >= first) & (index < first + len(some))
        own = torch.where(here, index - first, 0)[:, None].to(boxes.dtype)
        rois = torch.cat([own, torch.where(here[:, None], boxes, NOWHERE)], 1)
        share += roi_align(some, rois, side, 1.0, 0, aligned=True)[:, 0]
    return share >= 0.5


# ---------------------------------------------------------------------------------------------------------- outlines


def joined(outlines: Sequence[tuple[int, Polygons]]) -> Polygons:
    """Outlines of several images as those of one; to the objects' numbers the number that comes with them is added."""
    lengths = torch.cat([each.offsets.diff() for _, each in outlines])
    return Polygons(
        points=torch.cat([each.points for _, each in outlines]),
        offsets=F.pad(lengths.cumsum(0), (1, 0)),
        owner=torch.cat([each.owner + first for first, each in outlines]),
    )


def inside_outlines(boxes: Tensor, index: Tensor, polygons: Polygons, objects: int, side: int) -> Tensor:
    """Cells whose centre lies within an outline of the region's object: (R, S, S) bool.

    A point lies within an outline that a line from it to the left crosses an odd number of times. (Centres differ from
    the exact half of the area in 0.3 % of the cells; several points per cell are no better unless they are many.)

    Args:
        boxes: (R, 4).
        index: (R,) the regions' objects.
        polygons: Of these objects.
        objects: How many there are.
        side: S.
    """
    lengths, order = polygons.offsets.diff(), polygons.owner.argsort(stable=True)
    none = torch.zeros(objects, dtype=torch.int64, device=boxes.device)
    outlines = none.index_add(0, polygons.owner, torch.ones_like(polygons.owner))
    edges = none.index_add(0, polygons.owner, lengths)
    totals = torch.stack([outlines[index].sum(), edges[index].sum()]).tolist()  # the device is waited for
    region, place = _ranges((outlines.cumsum(0) - outlines)[index], outlines[index], totals[0])
    outline = order[place]
    first, end = polygons.offsets[outline], polygons.offsets[outline + 1]
    row, start = _ranges(first, end - first, totals[1])
    stop = torch.where(start + 1 == end[row], first[row], start + 1)
    corner, cell = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3) / side
    of_edge = region[row]
    begins, ends = ((polygons.points[each] - corner[of_edge]) / cell[of_edge] for each in (start, stop))
    filled = _filled(begins, ends, row, len(region), side)
    return torch.zeros(len(boxes), side, side, device=boxes.device).index_add_(0, region, filled.float()) > 0


def _ranges(first: Tensor, count: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """The numbers ``first``, ``first + 1``, ..., ``count`` of them, of all rows (N,) one after the other, and each
    one's row: two of (``total``,)."""
    row = torch.repeat_interleave(count, output_size=total)
    within = torch.arange(total, device=first.device) - (count.cumsum(0) - count)[row]
    return row, first[row] + within


def _filled(begins: Tensor, ends: Tensor, outline: Tensor, outlines: int, side: int) -> Tensor:
    """Which centres of cells lie inside: (N, S, S) bool.

    Args:
        begins: (E, 2) where edges begin, in cells.
        ends: (E, 2) where they end.
        outline: (E,) which of the outlines an edge belongs to.
        outlines: N.
        side: S.
    """
    rows = torch.arange(side, device=begins.device)
    crossed = torch.zeros(outlines, side, side + 1, dtype=torch.int32, device=begins.device)
    step = max(1, ELEMENTS // side)
    for begin, end, of in zip(*(torch.split(each, step) for each in (begins, ends, outline)), strict=True):
        (x, y), (to_x, to_y) = begin[:, :, None].unbind(1), end[:, :, None].unbind(1)
        crosses = (y <= rows + 0.5) != (to_y <= rows + 0.5)
        at = torch.where(crosses, x + (rows + 0.5 - y) / (to_y - y) * (to_x - x), 0)
        column = (at + 0.5).floor().clamp(0, side).long()  # the first cell with its centre to the right
        cells = (of[:, None] * side + rows) * (side + 1) + column
        crossed.view(-1).index_add_(0, cells.flatten(), crosses.flatten().int())
    return crossed.cumsum(2, dtype=torch.int32)[..., :side] % 2 > 0
