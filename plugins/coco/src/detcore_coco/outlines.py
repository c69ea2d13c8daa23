"""The outlines and masks of many objects in flat arrays, and what COCO's tools and a training sample want of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from detcore_coco.reading import Rle, Segmentation

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class Outlines:
    """Of N objects, each with some closed outlines or one run-length encoded mask.

    Attributes:
        points: (K, 2) float64, x and y in pixels of the image.
        ends: (M + 1,) where each of the M outlines begins in ``points``, and the end.
        objects: (N + 1,) where the outlines of each object begin in ``ends``, and the end.
        runs: The packed counts of all encoded masks, one after the other.
        masks: (N + 1,) where the mask of each object begins in ``runs``, and the end; nothing for one with outlines.
    """

    points: Floats
    ends: Ints
    objects: Ints
    runs: npt.NDArray[np.uint8]
    masks: Ints

    def polygons(self, row: int) -> list[Floats]:
        """The outlines (K, 2) of one object."""
        ends = self.ends[self.objects[row] : self.objects[row + 1] + 1]
        return [self.points[begin:end] for begin, end in pairwise(ends.tolist())]

    def coco(self, row: int, size: tuple[int, int]) -> Any:
        """What COCO's JSON has under ``segmentation``: lists of numbers, or ``{"size": ..., "counts": ...}``."""
        begin, end = self.masks[row : row + 2]
        if end > begin:
            return {"size": list(size), "counts": self.runs[begin:end].tobytes().decode("ascii")}
        return [outline.ravel().tolist() for outline in self.polygons(row)]

    def bitmap(self, row: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """The mask (H, W) of one object, 0 or 1, as COCO rasterises it."""
        segmentation = self.coco(row, size)
        if isinstance(segmentation, list):
            segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        bitmap: npt.NDArray[np.uint8] = coco_mask.decode(segmentation)
        return bitmap


def flatten(segmentations: Sequence[Segmentation]) -> Outlines:
    """Sound rows (see :func:`problem`) as flat arrays."""
    outlines = [[] if isinstance(each, Rle) else each for each in segmentations]
    runs = [_pack(each) if isinstance(each, Rle) else b"" for each in segmentations]
    return Outlines(
        points=np.fromiter(chain.from_iterable(chain.from_iterable(outlines)), np.float64).reshape(-1, 2),
        ends=_offsets(len(outline) // 2 for each in outlines for outline in each),
        objects=_offsets(map(len, outlines)),
        runs=np.frombuffer(b"".join(runs), np.uint8),
        masks=_offsets(map(len, runs)),
    )


def problem(segmentation: Segmentation, size: tuple[int, int]) -> str:
    """What is wrong with an object's outlines or mask in an image of ``size`` (height, width); or the empty string."""
    if isinstance(segmentation, Rle):
        if segmentation.size != size:
            return f"the mask is for an image of (height, width) {segmentation.size}, this one has {size}"
        if isinstance(segmentation.counts, list) and sum(segmentation.counts) != size[0] * size[1]:
            return f"the runs of the mask add up to {sum(segmentation.counts)} pixels, not to {size[0] * size[1]}"
        return "" if segmentation.counts else "the mask has no runs"
    if not segmentation:
        return "there is no outline"
    for outline in segmentation:
        if len(outline) < 6 or len(outline) % 2:
            return f"an outline has {len(outline)} numbers, not x and y of three points or more"
        if not math.isfinite(sum(outline)):
            return "an outline has a number that is not finite"
    return ""


def _pack(rle: Rle) -> bytes:
    if isinstance(rle.counts, str):
        return rle.counts.encode("ascii", "replace")
    packed: bytes = coco_mask.frPyObjects({"size": list(rle.size), "counts": rle.counts}, *rle.size)["counts"]
    return packed


def _offsets(lengths: Iterable[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))]).astype(np.int64)
