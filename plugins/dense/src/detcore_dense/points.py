"""One point per cell, and boxes as distances from it to their four sides (Tian et al. 2019, FCOS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detcore.interfaces import Features, Geometry, Strides
from detcore.structures import Batch, Priors
from torch import Tensor

from detcore_dense.boxes import full_precision
from detcore_dense.grid import grid, map_sizes, steps_over


def distances_to(points: Tensor, boxes: Tensor) -> Tensor:
    """(..., 2) points, (..., 4) boxes -> (..., 4) distances to the left, top, right and bottom side, in pixels.

    A distance is negative where the point is beyond that side.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)


def boxes_around(points: Tensor, distances: Tensor) -> Tensor:
    """The inverse of :func:`distances_to`."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)


class Points(Geometry):
    """A point per cell; a predicted vector holds the distances left, top, right, bottom.

    Args:
        strides: Input pixels per cell of each map.
        offset: Where in its cell a point lies, as a share of the stride.
        normalise: Distances are in strides rather than in pixels.
        spread: Cells share the batch's height and width evenly, rounded down to pixels, rather than being a stride
            apart; they are nearer to each other where a map's side was rounded up (torchvision's detectors).
    """

    priors_per_cell = 1

    def __init__(
        self,
        *,
        strides: Strides[Sequence[int]],
        offset: float = 0.5,
        normalise: bool = False,
        spread: bool = False,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.offset = offset
        self.normalise = normalise
        self.spread = spread

    def priors(self, features: Features, batch: Batch) -> Priors:
        """The points (P, 2) of the maps; valid where their cell begins inside the image's padded shape."""
        sizes = map_sizes(features, self.strides)
        steps = steps_over(batch.images, sizes) if self.spread else None
        cells = grid(sizes, self.strides, 1, features[0].device, steps)
        points = cells.corner + self.offset * cells.stride[:, None]
        return Priors(points, cells.stride, cells.level, cells.inside(batch.padded), cells.per_level)

    def encode(self, priors: Tensor, stride: Tensor, boxes: Tensor) -> Tensor:
        """(..., 2) points, (...) strides, (..., 4) boxes -> (..., 4) distances."""
        distances = distances_to(priors, full_precision(boxes))
        return distances / stride[..., None] if self.normalise else distances

    def decode(self, priors: Tensor, stride: Tensor, vectors: Tensor) -> Tensor:
        """(..., 2) points, (...) strides, (..., 4) distances -> (..., 4) boxes, not clipped."""
        distances = full_precision(vectors)
        return boxes_around(priors, distances * stride[..., None] if self.normalise else distances)
