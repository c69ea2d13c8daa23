"""A small detection benchmark that needs no files: shapes with texture, occlusion and lighting, drawn on the fly.

An image is a pure function of (seed, split, index): a *scene* is laid out first (which shapes, where, what hides what),
then *painted* with a second stream of random numbers, so that the annotations of an image cost no painting.

Every shape is one closed outline. Its box is the extent of that outline, its area the area inside, its mask the pixels
more than half inside; all three are of the whole object, whatever later objects hide of it. No object is cut by the
image's border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np
import numpy.typing as npt
import torch
from detcore.errors import ConfigError, did_you_mean
from detcore.interfaces import ClassNames
from detcore.polygons import PolygonPoints
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision import tv_tensors

Array = npt.NDArray[np.float32]
Generator = np.random.Generator

SMALL = 32
"""A side below this many pixels makes an object small."""
TRIES = 6
"""Places tried for an object that would hide too much or be hidden too much."""


def _f32(values: Any) -> Array:
    array: Array = np.asarray(values, np.float32)
    return array


# ------------------------------------------------------------------------------------------------------- the shapes


def _polar(angles: Array, radii: Array | float) -> Array:
    return _f32(np.stack([np.cos(angles), np.sin(angles)], 1) * np.reshape(radii, (-1, 1)))


def _regular(corners: int, radii: Sequence[float] = (1.0,)) -> Array:
    angles = np.arange(corners, dtype=np.float32) * (2 * np.pi / corners)
    return _polar(angles, np.resize(np.asarray(radii, np.float32), corners))


def _cross(arm: float) -> Array:
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]], np.float32)
    turns = [np.array([[c, -s], [s, c]], np.float32) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([quarter @ turn.T for turn in turns])


def _crescent() -> Array:
    outer = np.linspace(0.3 * np.pi, 1.7 * np.pi, 33, dtype=np.float32)
    tip = np.cos(outer[0]), np.sin(outer[0])
    centre = 0.45
    radius, reach = np.hypot(tip[0] - centre, tip[1]), np.arctan2(tip[1], tip[0] - centre)
    inner = np.linspace(2 * np.pi - reach, reach, 33, dtype=np.float32)[1:-1]
    return np.concatenate([_polar(outer, 1.0), _polar(inner, radius) + _f32([centre, 0])])


OUTLINES: Mapping[str, tuple[Array, float]] = {
    "circle": (_regular(48), 0.75),
    "rectangle": (_polar(np.arange(4, dtype=np.float32) * (np.pi / 2) + np.pi / 4, 1.0), 0.45),
    "triangle": (_regular(3), 0.75),
    "star": (_regular(10, (1.0, 0.42)), 0.85),
    "cross": (_cross(0.32), 0.8),
    "crescent": (_crescent(), 0.9),
}
"""Per class its outline (K, 2) about the origin, and the flattest ratio of its sides."""


# -------------------------------------------------------------------------------------------------------- the scene


@attrs.frozen(eq=False)
class Shape:
    """One object of a scene.

    Attributes:
        label: Row of the dataset's ``classes``.
        points: (K, 2) float32 outline, x and y in pixels.
        left, top: The pixel at which ``cover`` begins.
        cover: (h, w) uint8, how much of each pixel is inside, 0 to 255.
    """

    label: int
    points: Array
    left: int
    top: int
    cover: npt.NDArray[np.uint8]

    @property
    def window(self) -> tuple[slice, slice]:
        """Where ``cover`` lies in the image."""
        height, width = self.cover.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """(h, w), the pixels that are more than half inside."""
        return self.cover > 127

    @property
    def box(self) -> Array:
        """(4,) float32, x1 y1 x2 y2: the extent of the outline."""
        return np.concatenate([self.points.min(0), self.points.max(0)])

    @property
    def area(self) -> float:
        """Pixels inside the outline (the shoelace formula)."""
        x, y = self.points.astype(np.float64).T
        return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def outline(name: str, side: float, rng: Generator) -> Array:
    """A shape's outline (K, 2), turned and flattened at random, its longer side ``side``, near the origin."""
    points, flattest = OUTLINES[name]
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    turned = points * _f32([1, rng.uniform(flattest, 1)]) @ _f32([[cos, sin], [-sin, cos]])
    turned -= turned.min(0)
    return _f32(turned * np.float32(side / turned.max()) + rng.random(2, np.float32))


def draw(label: int, points: Array) -> Shape:
    """A shape with its coverage, supersampled: finely where it is small."""
    left, top = (int(low) for low in points.min(0))
    right, bottom = (math.ceil(high) for high in points.max(0).tolist())
    width, height = right - left, bottom - top
    fine = 4 if max(width, height) < 64 else 2
    canvas = Image.new("L", (width * fine, height * fine))
    # Pillow draws through the centres of pixels: half a fine pixel back puts continuous coordinates there.
    corners = (points - _f32([left, top])) * fine - np.float32(0.5)
    ImageDraw.Draw(canvas).polygon(corners.ravel().tolist(), fill=255)
    return Shape(label, points, left, top, np.asarray(canvas.reduce(fine)))


def move(shape: Shape, right: int, down: int) -> Shape:
    """The same shape, whole pixels away."""
    points = shape.points + _f32([right, down])
    return Shape(shape.label, points, shape.left + right, shape.top + down, shape.cover)


# ------------------------------------------------------------------------------------------------------ the painting


def _ramp(height: int, width: int, rng: Generator) -> Array:
    """(h, w), rising from 0 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    across, down = (0.5 * part / (abs(cos) + abs(sin)) for part in (cos, sin))
    x = np.arange(width, dtype=np.float32) * np.float32(2 * across / max(width - 1, 1))
    y = np.arange(height, dtype=np.float32) * np.float32(2 * down / max(height - 1, 1))
    return _f32(y[:, None] + (x + np.float32(0.5 - across - down)))


def _clouds(height: int, width: int, rng: Generator) -> Array:
    """(h, w), smooth random bumps from 0 to 1."""
    grid = Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8))
    return _f32(grid.resize((width, height), Image.Resampling.BILINEAR)) / np.float32(255)


def _stripes(height: int, width: int, rng: Generator) -> Array:
    stripes = _ramp(height, width, rng) * np.float32(math.hypot(height, width) / rng.uniform(2, 7))
    return _f32(stripes.astype(np.int32) & 1)


def _checker(height: int, width: int, rng: Generator) -> Array:
    odd = np.arange(max(height, width)) // rng.integers(3, 9) % 2 == 1
    return _f32(odd[:height, None] ^ odd[:width])


def _grain(height: int, width: int, rng: Generator) -> Array:
    return rng.random((height, width), dtype=np.float32)


def _plain(height: int, width: int, _: Generator) -> Array:
    return np.zeros((height, width), np.float32)


Texture = Callable[[int, int, Generator], Array]
TEXTURES: Sequence[Texture] = (_plain, _ramp, _stripes, _checker, _grain)


def _colours(rng: Generator, contrast: tuple[float, float]) -> Array:
    """(2, 3), a colour and a second one, lighter or darker by a factor between ``contrast``."""
    first = rng.uniform(30, 225, 3)
    factor = rng.uniform(*contrast)
    second = first * (1 - factor) + (255 if first.mean() < 128 else 0) * factor
    return np.stack([first, second]).astype(np.float32)


def _between(colours: Array, mix: Array) -> Array:
    """(h, w) mix of two colours -> (3, h, w)."""
    first, second = colours[..., None, None]
    mixed = mix * (second - first)
    mixed += first
    return _f32(mixed)


def paint(shapes: Sequence[Shape], size: tuple[int, int], rng: Generator) -> npt.NDArray[np.uint8]:
    """A scene as an image (3, H, W): ground, shapes in order (later ones over earlier ones), light, noise."""
    ground = (_ramp, _clouds)[int(rng.integers(2))](*size, rng)
    image = _between(_colours(rng, (0.1, 0.45)), ground)
    for shape in shapes:
        height, width = shape.cover.shape
        texture = TEXTURES[int(rng.integers(len(TEXTURES)))](height, width, rng)
        colours = _colours(rng, (0.25, 0.6))
        alpha = shape.cover * np.float32(1 / 255)
        under = image[:, *shape.window]
        colours = _apart(colours, (under * alpha).sum((1, 2)) / max(alpha.sum(), 1))
        under += alpha * (_between(colours, texture) - under)
    dark = rng.uniform(0.45, 0.9)  # the light stays below 0.9 and the noise below 25, so that nothing overflows
    image *= np.float32(dark) + _ramp(*size, rng) * np.float32(0.9 - dark)
    image += rng.integers(0, rng.integers(1, 25), size, np.uint8)
    return image.astype(np.uint8)


def _apart(colours: Array, under: Array) -> Array:
    """Two colours (2, 3), moved away from what lies under them (3,): no contrast, nothing to find."""
    if np.abs(colours[0] - under).max() < 45:
        colours = colours + (np.where(under > 128, -70, 70) - (colours[0] - under))
    return np.clip(colours, 0, 255).astype(np.float32)


# ------------------------------------------------------------------------------------------------------- the dataset


class ShapesDataset:
    """Images with shapes; see the module's docstring.

    ``dataset[i]`` is ``(tv_tensors.Image uint8 (3, H, W), target)``; the target has ``boxes`` (G, 4) XYXY float32,
    ``labels`` (G,) int64, ``image_id`` (the index), ``iscrowd`` (G,) int64 zeros, ``area`` (G,) float32 (pixels inside
    the outline). On request ``polygons``, the ``PolygonPoints`` (K, 2) of all outlines, with ``offsets``
    (G + 1,) where each begins and ``owner`` (G,), the row it belongs to; ``masks``, a ``tv_tensors.Mask`` (G, H, W).

    Args:
        length: Number of images.
        split: ``"train"`` and ``"val"`` share no random numbers, whatever their lengths.
        size: Height and width of the images, at least 64.
        classes: Which shapes, in the order of their labels; None: all six.
        seed: Another seed, other images.
        min_objects: Objects of an image that is not empty; crowded images may end up with fewer.
        max_objects: The most objects of an image.
        small: The share of objects with both sides below 32 pixels; others are up to 0.6 of the image's shorter side.
        smallest: The longer side of an object in pixels is at least this, and at most 31 where it is a small one.
        empty: The share of images without an object.
        max_hidden: An object of which later ones would hide more than this share is neither drawn nor annotated.
        polygons: Whether targets hold outlines.
        masks: Whether targets hold masks.

    Raises:
        ConfigError: An unknown shape, or numbers that cannot be.
    """

    def __init__(
        self,
        *,
        length: int = 1000,
        split: Literal["train", "val"] = "train",
        size: tuple[int, int] = (320, 320),
        classes: ClassNames | None = None,
        seed: int = 0,
        min_objects: int = 1,
        max_objects: int = 12,
        small: float = 0.25,
        smallest: int = 10,
        empty: float = 0.1,
        max_hidden: float = 0.5,
        polygons: bool = False,
        masks: bool = False,
    ) -> None:
        self.classes: Sequence[str] = tuple(OUTLINES if classes is None else classes)
        self.length = length
        self.split = split
        self.size = (int(size[0]), int(size[1]))
        self.seed = seed
        self.objects = (min_objects, max_objects)
        self.small = small
        self.smallest = smallest
        self.empty = empty
        self.max_hidden = max_hidden
        self.polygons = polygons
        self.masks = masks
        self._check()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, dict[str, Any]]:
        shapes = self.scene(index)
        pixels = paint(shapes, self.size, self._rng(index, "paint"))
        image = tv_tensors.Image(torch.from_numpy(pixels))
        return image, self._target(index, shapes)

    def annotations(self, index: int) -> dict[str, Any]:
        """The target of an image without painting it."""
        return self._target(index, self.scene(index))

    def scene(self, index: int) -> list[Shape]:
        """The shapes of an image, in the order in which they are drawn. Raises IndexError past the end."""
        if not 0 <= index < self.length:
            raise IndexError(f"image {index} of {self.length}")
        rng = self._rng(index, "scene")
        if rng.random() < self.empty:
            return []
        wanted = rng.integers(self.objects[0], self.objects[1] + 1)
        covered = np.zeros(self.size, np.bool_)
        shapes: list[Shape] = []
        for _ in range(wanted):  # from the topmost down, so that what hides an object is known when it is placed
            label = int(rng.integers(len(self.classes)))
            drawn = draw(label, outline(self.classes[label], self._side(rng), rng))
            height, width = drawn.cover.shape
            inside = drawn.inside
            bearable = self.max_hidden * np.count_nonzero(inside)
            for x, y in rng.integers((self.size[1] - width + 1, self.size[0] - height + 1), size=(TRIES, 2)).tolist():
                under = covered[y : y + height, x : x + width]
                if np.count_nonzero(under & inside) <= bearable:
                    under |= inside
                    shapes.append(move(drawn, x, y))
                    break
        return shapes[::-1]

    def _target(self, index: int, shapes: Sequence[Shape]) -> dict[str, Any]:
        boxes = np.stack([shape.box for shape in shapes]) if shapes else np.zeros((0, 4), np.float32)
        target: dict[str, Any] = {
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(boxes), format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=self.size
            ),
            "labels": torch.tensor([shape.label for shape in shapes], dtype=torch.int64),
            "image_id": index,
            "iscrowd": torch.zeros(len(shapes), dtype=torch.int64),
            "area": torch.tensor([shape.area for shape in shapes], dtype=torch.float32),
        }
        if self.polygons:
            target.update(_polygons(shapes, self.size))
        if self.masks:
            masks = np.zeros((len(shapes), *self.size), np.uint8)
            for mask, shape in zip(masks, shapes, strict=True):
                mask[shape.window] = shape.inside
            target["masks"] = tv_tensors.Mask(torch.from_numpy(masks))
        return target

    def _rng(self, index: int, purpose: Literal["scene", "paint"]) -> Generator:
        return np.random.default_rng([self.seed, self.split == "val", purpose == "paint", index])

    def _side(self, rng: Generator) -> float:
        """The longer side of an object, log-uniform among small ones or among others."""
        low, high = (self.smallest, SMALL - 1) if rng.random() < self.small else (SMALL, 0.6 * min(self.size))
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def _check(self) -> None:
        for name in self.classes:
            if name not in OUTLINES:
                near = did_you_mean(name, OUTLINES)
                raise _wrong("classes", f'no shape "{name}"', near, f"Shapes: {', '.join(OUTLINES)}.")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise _wrong("classes", f"{list(self.classes)}", "Name at least one shape, and each once.")
        if self.split not in ("train", "val"):
            raise _wrong("split", f'"{self.split}"', 'It is "train" or "val".')
        for name, share in (("small", self.small), ("empty", self.empty), ("max_hidden", self.max_hidden)):
            if not 0 <= share <= 1:
                raise _wrong(name, f"{share}", "It is a share, from 0 to 1.")
        least_values = {"length": (self.length, 1), "seed": (self.seed, 0), "size": (min(self.size), 2 * SMALL)}
        for name, (value, least) in least_values.items():
            if value < least:
                raise _wrong(name, f"{value}", f"The least is {least}.")
        if not 4 <= self.smallest < SMALL:
            raise _wrong("smallest", f"{self.smallest}", f"It is 4 to {SMALL - 1}.")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise _wrong("min_objects", f"{self.objects[0]} to {self.objects[1]} objects", "It is 1 to max_objects.")


def _polygons(shapes: Sequence[Shape], size: tuple[int, int]) -> dict[str, Tensor]:
    points = np.concatenate([np.zeros((0, 2), np.float32), *(shape.points for shape in shapes)])
    return {
        "polygons": PolygonPoints(torch.from_numpy(points), canvas_size=size),
        "offsets": torch.tensor([0, *(len(shape.points) for shape in shapes)]).cumsum(0),
        "owner": torch.arange(len(shapes)),
    }


def _wrong(parameter: str, found: str, *fix: str) -> ConfigError:
    return ConfigError(f"ShapesDataset: {parameter}", found, " ".join(fix).strip())
