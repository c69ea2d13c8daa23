"""Samples through albumentations and back: every row of a target stays with its object."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detcore.data import keep_rows
from detcore.errors import ConfigError, DataError
from detcore.polygons import PolygonPoints
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from detcore_albumentations.library import library, made_all, one_thread

CENTRE = 0.5
"""Key points of the library lie at the centres of pixels, of which the first is at 0; outlines begin at the edge."""


class Albumentations(Transform):  # type: ignore[misc]  # torchvision is not typed
    """Transforms of albumentations, one after the other.

    Pixels, boxes, masks, outlines and proposals move together. Boxes are cut at the image's border; what is left of an
    object smaller than ``min_size``, ``min_area`` or ``min_visibility`` drops it with all it has, and it is counted as
    those that ``Sanitize`` drops. All chance comes from torch's generator.

    Outlines move as the library moves key points: where images are resized by a factor, they are up to half a pixel
    times (factor - 1) beside the boxes; of distortions that lose points, masks are moved only.

    Args:
        transforms: Tables with the ``type`` and parameters of the library's transforms; in ``OneOf`` and the like they
            have lists of such tables themselves.
        p: How probable it is that anything of this happens.
        min_size: The least width and height of a box, in pixels.
        min_area: The least area of a box, in square pixels.
        min_visibility: The least share of a box's area that is left where a transform cuts it.

    Raises:
        ConfigError: A transform is not there, or does not take what it is given.
    """

    def __init__(
        self,
        *,
        transforms: Sequence[Mapping[str, Any]],
        p: float = 1.0,
        min_size: float = 1.0,
        min_area: float = 0.0,
        min_visibility: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("p", p), ("min_visibility", min_visibility)):
            if not 0 <= value <= 1:
                raise ConfigError(f"Albumentations: {name}", f"{value}", "It is a share, from 0 to 1.")
        for name, value in (("min_size", min_size), ("min_area", min_area)):
            if value < 0 or (name == "min_size" and not value):
                raise ConfigError(f"Albumentations: {name}", f"{value}", "It is a number of pixels.")
        steps = made_all(transforms, "Albumentations: transforms")
        boxes = library().BboxParams(
            "pascal_voc",
            label_fields=["rows"],
            clip=True,
            filter_invalid_bboxes=True,
            min_width=min_size,
            min_height=min_size,
            min_area=min_area,
            min_visibility=min_visibility,
        )
        points = library().KeypointParams("xy", remove_invisible=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got processor for")  # colours alone move no boxes, which is fine
            self.compose = library().Compose(steps, bbox_params=boxes, keypoint_params=points, p=p)

    def forward(self, image: Any, target: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Image and target -> the same, moved.

        Raises:
            DataError: What comes out is no picture, or an outline lost points.
        """
        boxes = [target[name].as_subclass(Tensor) for name in ("boxes", "proposals") if name in target]
        given = torch.cat([torch.zeros(0, 4), *boxes])
        self._seed()
        with one_thread():
            found = self.compose(**_data(image, target, given))
        pixels = _picture(found["image"])
        rows = torch.from_numpy(np.asarray(found["rows"], dtype=np.int64).reshape(-1))
        moved, stays = given.clone(), torch.zeros(len(given), dtype=torch.bool)
        moved[rows] = torch.from_numpy(np.asarray(found["bboxes"], dtype=np.float32)).view(-1, 4)
        stays[rows] = True
        return pixels, _target(target, found, moved, stays, F.get_size(pixels))

    def _seed(self) -> None:
        seed = int(torch.randint(2**62, ()))
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))


def _data(image: Any, target: Mapping[str, Any], boxes: Tensor) -> dict[str, Any]:
    """A sample as the library is given it. Boxes have their numbers, as it drops some."""
    pixels = image.as_subclass(Tensor).permute(1, 2, 0).contiguous().numpy()
    data = {"image": pixels, "bboxes": boxes.double().numpy(), "rows": np.arange(len(boxes))}
    if len(target.get("masks", ())):
        data["masks"] = target["masks"].as_subclass(Tensor).to(torch.uint8).numpy()
    if len(target.get("polygons", ())):
        data["keypoints"] = (target["polygons"].as_subclass(Tensor) - CENTRE).numpy()
    return data


def _picture(pixels: Any) -> tv_tensors.Image:
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        form = f"{getattr(pixels, 'dtype', '')} {tuple(pixels.shape)}".strip()
        fix = "Leave out what normalises or makes tensors: [preprocess] does."
        raise DataError("Albumentations", f"gives {form}, wanted is uint8 (H, W, 3)", fix)
    return tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))


def _target(
    target: dict[str, Any], found: Mapping[str, Any], boxes: Tensor, stays: Tensor, size: Sequence[int]
) -> dict[str, Any]:
    """The target of before with what has moved, and without the rows that were dropped."""
    canvas, moved = tuple(size), dict(target)
    objects = len(target.get("boxes", ()))
    if "masks" in target:
        masks = np.ascontiguousarray(found.get("masks", np.zeros((0, *canvas))))
        moved["masks"] = tv_tensors.Mask(torch.from_numpy(masks).to(target["masks"].dtype).view(-1, *canvas))
    if "polygons" in target:
        points = torch.from_numpy(np.asarray(found.get("keypoints", ()), dtype=np.float32)).view(-1, 2) + CENTRE
        if len(points) != len(target["polygons"]):
            fix = 'Set segmentation = "masks" of the dataset.'
            raise DataError("Albumentations", "a transform of the list loses points of outlines", fix)
        moved["polygons"] = PolygonPoints(points, canvas_size=canvas)
    if "proposals" in target:
        kept = stays[objects:]
        moved["proposals"] = tv_tensors.BoundingBoxes(boxes[objects:][kept], format="XYXY", canvas_size=canvas)
        moved["proposal_scores"] = target["proposal_scores"][kept]
    if "boxes" not in target:
        return moved
    moved["boxes"] = tv_tensors.BoundingBoxes(boxes[:objects], format="XYXY", canvas_size=canvas)
    return keep_rows(moved, stays[:objects])
