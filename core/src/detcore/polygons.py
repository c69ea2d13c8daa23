"""The outlines of objects in a sample: points that transforms move as they move boxes and pixels.

``target["polygons"]`` holds the points of all outlines of an image; beside it are two plain tensors, ``offsets`` (N +
1,), where each of the N closed outlines begins and the last one ends, and ``owner`` (N,), the object (row of
``boxes``) that an outline belongs to.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import register_kernel


class PolygonPoints(tv_tensors.KeyPoints):  # type: ignore[misc]  # torchvision is not typed
    """Points (K, 2), x and y in pixels of the image, whose left and top edges are at 0, as they are for boxes.

    They may lie outside of the image: points that were moved to its edge would change the outline. torchvision's
    key points are centres of pixels in flips, and would be one pixel away from the boxes.
    """

    @classmethod
    def _wrap_output(cls, output: Any, *rest: Any) -> Any:
        """What ``clone``, ``to`` and copies give stays of this class; torchvision makes plain key points of it."""
        wrapped = super()._wrap_output(output, *rest)
        plain = type(wrapped) is tv_tensors.KeyPoints
        return cls(wrapped.as_subclass(Tensor), canvas_size=wrapped.canvas_size) if plain else wrapped


def _flipped(points: PolygonPoints, axis: int) -> PolygonPoints:
    """Mirrored along x (0) or y (1)."""
    moved = points.as_subclass(Tensor).clone()
    moved[:, axis] = points.canvas_size[1 - axis] - moved[:, axis]
    return cast(PolygonPoints, tv_tensors.wrap(moved, like=points))


@register_kernel("horizontal_flip", PolygonPoints)  # type: ignore[untyped-decorator]
def _left_is_right(points: PolygonPoints) -> PolygonPoints:
    return _flipped(points, 0)


@register_kernel("vertical_flip", PolygonPoints)  # type: ignore[untyped-decorator]
def _top_is_bottom(points: PolygonPoints) -> PolygonPoints:
    return _flipped(points, 1)
