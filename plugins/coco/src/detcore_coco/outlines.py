"""The outlines and masks of many objects in flat arrays, and what COCO's tools and a training sample want of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, cast

import attrs
import numpy as np
import numpy.typing as npt
from detcore.index import Writer
from detcore.report import Finding
from pycocotools import mask as coco_mask

from detcore_coco.reading import AnnotationRow, OutlinedRow, Rle, Segmentation

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


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

    @staticmethod
    def of(arrays: Mapping[str, npt.NDArray[Any]]) -> Outlines:
        """Those of an index."""
        return Outlines(*(arrays[name] for name in ("points", "ends", "objects", "runs", "masks")))

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


class OutlineWriter:
    """Writes the outlines and masks of annotations, a few at a time, as the arrays of :class:`Outlines`.

    What is of no use is left out, and noted.

    Args:
        writer: Where to.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.count = 0
        self.problems: dict[int, str] = {}
        self._lasts = dict.fromkeys(("ends", "objects", "masks"), 0)
        for name in self._lasts:
            writer.add(name, np.zeros(1, np.int64))

    def add(self, rows: Sequence[AnnotationRow], sizes: Ints, known: Bools) -> None:
        """Append N rows, of images of ``sizes`` (N, 2), width and height; only those of ``known`` (N,) images count."""
        segmentations: list[Segmentation] = [row.segmentation for row in cast(Sequence[OutlinedRow], rows)]
        if not self._add_plain(segmentations):
            self._add_each(segmentations, sizes, known)
        self.count += len(rows)

    def _add_plain(self, segmentations: Sequence[Segmentation]) -> bool:
        """Outlines alone, with which nothing is wrong; else nothing is added: :func:`problem` of many at once."""
        if not all(segmentations) or any(type(each) is Rle for each in segmentations):
            return False
        outlines = cast(Sequence[list[list[float]]], segmentations)
        parts = [*chain.from_iterable(outlines)]
        lengths = np.fromiter(map(len, parts), np.int64)
        points = np.fromiter(chain.from_iterable(parts), np.float64)
        if (lengths < 6).any() or (lengths % 2).any() or not np.isfinite(points).all():
            return False
        self._write(points, lengths // 2, [*map(len, outlines)], [b""] * len(outlines))
        return True

    def _add_each(self, segmentations: list[Segmentation], sizes: Ints, known: Bools) -> None:
        for row, (width, height) in enumerate(sizes.tolist()):
            what = problem(segmentations[row], (height, width)) if known[row] else "of no image"
            if what and known[row]:
                self.problems[self.count + row] = what
            if what:
                segmentations[row] = []
        outlines = [[] if isinstance(each, Rle) else each for each in segmentations]
        parts = [*chain.from_iterable(outlines)]
        points = np.fromiter(chain.from_iterable(parts), np.float64)
        runs = [_pack(each) if isinstance(each, Rle) else b"" for each in segmentations]
        self._write(points, np.array([len(part) // 2 for part in parts], np.int64), [*map(len, outlines)], runs)

    def _write(self, points: Floats, sizes: Ints, counts: Sequence[int], runs: Sequence[bytes]) -> None:
        """Points (2 K,), how many each outline has, how many outlines and which mask each object has."""
        self.writer.add("points", points.reshape(-1, 2))
        self.writer.add("runs", np.frombuffer(b"".join(runs), np.uint8))
        self._count("ends", sizes)
        self._count("objects", np.array(counts, np.int64))
        self._count("masks", np.array([*map(len, runs)], np.int64))

    def finding(self) -> Finding:
        """What was left out."""
        return Finding("unusable outline", np.array([*self.problems], np.int64), self.problems.__getitem__)

    def _count(self, name: str, lengths: Ints) -> None:
        if len(lengths):
            ends = np.cumsum(lengths) + self._lasts[name]
            self.writer.add(name, ends)
            self._lasts[name] = int(ends[-1])


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
