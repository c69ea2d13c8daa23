"""Turning, scaling, shearing and moving in one step, as YOLOX does it (Ge et al. 2021, section 2.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from detcore_transforms.targets import check_range, refused, uniform


class YOLOXRandomAffine(Transform):  # type: ignore[misc]  # torchvision is not typed
    """A random map about the top left corner: scaled, turned, sheared, then moved.

    (``RandomAffine``, torchvision's, maps about the centre and keeps the size.) No object is dropped: ``Sanitize`` does
    that. Boxes become what surrounds their corners.

    Args:
        degrees: Turned by an angle of at most this, either way.
        translate: Moved by at most this share of the new height and width, each.
        scale: A factor between these.
        shear: Sheared by an angle of at most this, in degrees, along x and along y.
        border: Pixels added at the bottom (and as many again, so that the size grows by twice this), and at the right.
            Negative: cut, such as half of a mosaic's ``size``.
        fill: The value of pixels where the image is not.
    """

    def __init__(
        self,
        *,
        degrees: float = 10.0,
        translate: float = 0.1,
        scale: tuple[float, float] = (0.5, 1.5),
        shear: float = 2.0,
        border: tuple[int, int] = (0, 0),
        fill: int = 114,
    ) -> None:
        super().__init__()
        check_range(self, "scale", scale)
        if not 0 <= shear < 45:
            raise refused(self, "shear", shear, "It is an angle in degrees, below 45.")
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.border = border
        self.fill = fill

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The map (3, 3) from pixels to new pixels, and the new size."""
        height, width = (side + 2 * more for side, more in zip(F.get_size(flat_inputs[0]), self.border, strict=True))
        if min(height, width) < 1:
            raise ValueError(f"the border {list(self.border)} leaves nothing of {F.get_size(flat_inputs[0])}")
        angle, scale = math.radians(uniform(-self.degrees, self.degrees)), uniform(*self.scale)
        across, down = (math.tan(math.radians(uniform(-self.shear, self.shear))) for _ in range(2))
        x, y = (uniform(-self.translate, self.translate) * side for side in (width, height))
        turned = torch.tensor(
            [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
        )
        sheared = torch.tensor([[1, across, x], [down, 1, y], [0, 0, 1]])
        return {"matrix": sheared @ turned @ torch.diag(torch.tensor([scale, scale, 1])), "size": (height, width)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See the class."""
        matrix, size = params["matrix"], params["size"]
        value = inpt.as_subclass(Tensor)
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            boxes = surrounding(corners(value) @ matrix[:2, :2].T + matrix[:2, 2])
            wrapped = tv_tensors.wrap(boxes, like=inpt, canvas_size=size)
            return F.clamp_bounding_boxes(wrapped)
        if isinstance(inpt, tv_tensors.KeyPoints):
            return tv_tensors.wrap(value @ matrix[:2, :2].T + matrix[:2, 2], like=inpt, canvas_size=size)
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.wrap(sampled(value, matrix, size, 0, "nearest"), like=inpt)
        return tv_tensors.wrap(sampled(value, matrix, size, self.fill, "bilinear"), like=inpt)


def corners(boxes: Tensor) -> Tensor:
    """Boxes (G, 4) -> their corners (G, 4, 2)."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2)


def surrounding(points: Tensor) -> Tensor:
    """Points (G, K, 2) -> the box (G, 4) around each row."""
    return torch.cat([points.amin(1), points.amax(1)], 1)


def sampled(planes: Tensor, matrix: Tensor, size: tuple[int, int], fill: int, mode: str) -> Tensor:
    """Planes (C, H, W) uint8 at the places that ``matrix`` (3, 3) maps to the centres of new pixels; (C, h, w) uint8.

    Between the edge and ``fill`` around it values are mixed as between pixels.
    """
    back = matrix.inverse()
    top, left, bottom, right = _seen(back, size, planes.shape[-2:])
    part = planes[:, top:bottom, left:right]
    if not part.numel():
        return planes.new_full((len(planes), *size), fill)
    back = torch.cat([back[:2] - torch.tensor([[0, 0, left], [0, 0, top]]), back[2:]])
    grid = _places(_to_pixels(part.shape[-2:]).inverse() @ back @ _to_pixels(size), size)
    lifted = part.float() - fill  # outside of it, zeros are sampled
    values = grid_sample(lifted[None], grid, mode=mode, padding_mode="zeros", align_corners=False)[0]
    return values.add_(fill).round_().clamp_(0, 255).to(torch.uint8)


def _seen(back: Tensor, size: tuple[int, int], old: Sequence[int]) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of what new pixels can show of an image of height and width ``old``."""
    (height, width), (high, wide) = size, old
    points = corners(torch.tensor([[0.0, 0, width, height]])) @ back[:2, :2].T + back[:2, 2]
    (left, top), (right, bottom) = (points[0].amin(0).floor() - 1).tolist(), (points[0].amax(0).ceil() + 1).tolist()
    return max(0, int(top)), max(0, int(left)), max(0, min(high, int(bottom))), max(0, min(wide, int(right)))


def _places(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, h, w, 2): where ``theta`` (3, 3) maps the centres of pixels to, all between -1 and 1."""
    y, x = ((2 * torch.arange(side) + 1) / side - 1 for side in size)
    parts = (row[0] * x + (row[1] * y + row[2])[:, None] for row in theta[:2])
    return torch.stack([*parts], -1)[None]


def _to_pixels(size: Any) -> Tensor:
    """(3, 3): from coordinates between -1 and 1 to those between 0 and width, and 0 and height."""
    height, width = size
    return torch.tensor([[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]])
