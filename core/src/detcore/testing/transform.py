"""Transforms: samples to samples."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform

from detcore.data import Mixing, Sample, Samples, sample_problem, seeded
from detcore.testing.compare import ConformanceError, copied, different, during, unchanged
from detcore.testing.dataset import outline_problem
from detcore.testing.toys import CLASSES, TinyDataset
from detcore.testing.worker import in_worker

CROWD = 2
"""The class whose objects are crowds: so rows of ``labels`` and ``iscrowd`` can be held against each other."""
NEAR = 2
"""Pixels that a mask, an outline and a box may be apart."""
EMPTY = 2
"""Which scene has no object."""
BARE = ("boxes", "labels", "image_id")
"""What every target has."""


class Scenes(TinyDataset):
    """Drawn images with all that a target can have, proposals too: first the objects' own boxes, then a few more."""

    def __init__(self, without: Sequence[str] = (), *, bare: bool = False) -> None:
        super().__init__(length=5, empty=(EMPTY,), crowds=CROWD, seed=1)
        self.without = {*without, *(("offsets", "owner") if "polygons" in without else ())}
        self.bare = bare

    def __getitem__(self, index: int) -> Sample:
        """A scene, without what is not wanted, or bare: with nothing but what every target has."""
        image, target = super().__getitem__(index)
        size, boxes = image.shape[-2:], target["boxes"].as_subclass(Tensor)
        more = torch.tensor([[1.0, 2, 21, 32], [30, 5, 60, 25]])
        proposals = tv_tensors.BoundingBoxes(torch.cat([boxes, more]), format="XYXY", canvas_size=size)
        scores = torch.linspace(1, 0.1, len(proposals))
        target |= {"proposals": proposals, "proposal_scores": scores, "caption": "rectangles"}
        wanted = BARE if self.bare else target.keys() - self.without
        return image, {key: each for key, each in target.items() if key in wanted}


def check_transform(
    transform: Transform, *, without: Sequence[str] = (), seeds: int = 8, pixels: bool = True, workers: bool = True
) -> None:
    """All of a sample moves together, nothing is lost in silence, and chance comes from the seed.

    It is given drawn scenes: with masks, outlines, crowds and proposals, without objects, with nothing but boxes.

    Args:
        transform: Of torchvision's v2, or a :class:`detcore.data.Mixing`, which is given others.
        without: Entries that it is not given: ``("polygons",)`` where it cannot move them.
        seeds: How often it is called.
        pixels: Whether objects still look otherwise than what is around them.
        workers: Whether it is called in a fresh process, too, as a data loader's worker calls it.

    Raises:
        ConformanceError: A contract is broken.
    """
    name = type(transform).__name__
    if not isinstance(transform, Transform):
        raise ConformanceError(name, "is no Transform", "It derives from torchvision.transforms.v2.Transform.")
    scenes, bare = Samples(Scenes(without)), Samples(Scenes(bare=True))
    calls = [(scenes, seed % len(scenes), seed) for seed in range(seeds)]
    calls += [] if without else [(bare, 0, 0), (bare, EMPTY, 1)]
    found = [_checked(transform, *call, pixels=pixels) for call in calls]
    for call, first in zip(reversed(calls), reversed(found), strict=True):  # backwards: it keeps nothing from before
        _check_same(name, "a second time", first, moved(transform, *call))
    with during(name, "when it is pickled, as workers need it"):
        twin = pickle.loads(pickle.dumps(transform))
    _check_same(name, "by a copy", found[0], moved(twin, *calls[0]))
    if workers:
        with during(name, "in a fresh process"):
            there = in_worker(moved, transform, *calls[0])
        _check_same(name, "in a fresh process", found[0], there)


def _checked(transform: Transform, scenes: Samples, index: int, seed: int, *, pixels: bool) -> Any:
    """A scene behind the transform, once it is found sound."""
    name, (image, target) = type(transform).__name__, scenes[index]
    entries = "" if len(target) > len(BARE) + 1 else ", given no more than boxes, labels and image_id,"
    when = f"of an image with {len(target['boxes'])} objects{entries}"
    with unchanged(name, "its image or its target", image, target), during(name, when):
        made = _moved(transform, image, target, scenes, seed)
    if problem := _problem(made, target, mixes=isinstance(transform, Mixing), pixels=pixels):
        raise ConformanceError(name, f"{when} {problem[0]}", problem[1])
    return copied(list(made))


def moved(transform: Transform, scenes: Samples, index: int, seed: int) -> Any:
    """A scene behind the transform, whatever it draws from ``seed``; a name that a worker can find."""
    return _moved(transform, *scenes[index], scenes, seed)


def _moved(transform: Transform, image: Any, target: Any, others: Samples, seed: int) -> Any:
    with seeded(7, seed):
        mixes = isinstance(transform, Mixing)
        return transform.mix(image, target, others) if mixes else transform(image, target)


def _check_same(name: str, what: str, first: Any, again: Any) -> None:
    if difference := different(first, list(again)):
        found = f"gives another sample {what}, of the same seed: {difference}"
        raise ConformanceError(
            name, found, "Draw from torch's, numpy's or random's global generator only; keep no state."
        )


STEP = "Rows go, stay and change places together: detcore.data.keep_rows."
Problem = tuple[str, str] | None
"""What is wrong, and what would be right."""


def _problem(made: Any, before: Mapping[str, Any], *, mixes: bool, pixels: bool) -> Problem:
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], dict)):
        return f"gives a {type(made).__name__}", "It is a tuple (image, target) with a dict as target."
    picture, target = made
    return (
        _entry_problem(picture, before, target)
        or _row_problem(picture, target)
        or (None if mixes else _area_problem(before, target) or _count_problem(before, target))
        or _place_problem(picture, before, target, mixes=mixes)
        or (_pixel_problem(picture, target) if pixels else None)
    )


def _entry_problem(picture: Any, before: Mapping[str, Any], target: Mapping[str, Any]) -> Problem:
    """All is there, of the types and on the canvas that it should be."""
    if type(picture) is not tv_tensors.Image:
        return (
            f"gives an image that is a {type(picture).__name__}",
            "It stays a tv_tensors.Image: wrap(..., like=image).",
        )
    if problem := sample_problem(picture, dict(target), len(CLASSES)):
        return f"gives a sample of which {problem}", "See detcore.data.sample_problem; images stay uint8."
    for key, value in before.items():
        if key not in target:
            return f"gives a target without {key}", "What it does not know goes through as it is."
        if type(target[key]) is not type(value):
            found = f"makes {type(target[key]).__name__} of {key}, which was {type(value).__name__}"
            return found, "Wrap what is computed: tv_tensors.wrap(..., like=value)."
        canvas = getattr(target[key], "canvas_size", None)
        if canvas is not None and tuple(canvas) != tuple(picture.shape[-2:]):
            found = f"gives {key} on a canvas of {tuple(canvas)} with an image of {tuple(picture.shape[-2:])}"
            return found, "Both are (height, width), and change together."
    return None


def _row_problem(picture: Any, target: Mapping[str, Any]) -> Problem:
    """What has a row per object is in step."""
    size, rows = (picture.shape[-2], picture.shape[-1]), len(target["boxes"])
    if problem := outline_problem(target, rows, size):
        return f"gives masks or outlines that are wrong: {problem}", STEP
    labels = target["labels"]
    if "iscrowd" in target and not torch.equal(target["iscrowd"].long(), (labels == CROWD).long()):
        return "gives labels and iscrowd that are not in step", STEP
    if "polygons" in target and torch.bincount(target["owner"], minlength=rows).tolist() != (labels + 1).tolist():
        return "gives labels and outlines that are not in step", STEP
    if "proposals" in target and len(target["proposals"]) != len(target["proposal_scores"]):
        return f"gives {len(target['proposals'])} proposals with {len(target['proposal_scores'])} scores", STEP
    return None


def _area_problem(before: Mapping[str, Any], target: Mapping[str, Any]) -> Problem:
    """Where no object went, areas are as before, or all larger or smaller by the same factor."""
    labels = target["labels"]
    if "area" not in before or not len(labels) or not torch.equal(labels, before["labels"]):
        return None
    factors = target["area"] / before["area"]
    if torch.allclose(factors, factors[:1].expand_as(factors), rtol=1e-2):
        return None
    return "gives areas that are not in step with labels", STEP


def _count_problem(before: Mapping[str, Any], target: Mapping[str, Any]) -> Problem:
    """Whatever is dropped is counted."""
    gone = len(before["boxes"]) - len(target["boxes"])
    told = target.get("dropped", 0) - before.get("dropped", 0)
    if gone != told:
        found = f"drops {gone} objects, but adds {told} to target['dropped']"
        return found, "Nothing goes in silence: detcore.data.keep_rows counts; or leave it to Sanitize."
    return None


def _place_problem(picture: Any, before: Mapping[str, Any], target: Mapping[str, Any], *, mixes: bool) -> Problem:
    """Boxes, outlines, masks and proposals are at the same place."""
    boxes, size = target["boxes"].as_subclass(Tensor), (picture.shape[-2], picture.shape[-1])
    for row, box in enumerate(boxes):
        if (box[2:] - box[:2]).min() < 2:  # Sanitize drops what is nothing
            continue
        of = f"of object {row}"
        outline = rasterised(target, row, size) if "polygons" in target else None
        if outline is not None and (problem := _box_problem(box, outline, _points(target, row))):
            return f"gives a box {of} that is {problem}", "Boxes are what surrounds the object where it is now."
        if "masks" in target:
            mask = target["masks"][row].as_subclass(Tensor).bool()
            if outline is not None and (_beyond(mask, outline) or _beyond(outline, mask)):
                return f"gives a mask {of} more than {NEAR} pixels beside its outline", "Both are moved alike."
            if outline is None and _outside(_extent(mask), box) > NEAR:
                return f"gives a box {of} that does not hold its mask", "Boxes and masks are moved alike."
        if "proposals" in target and not mixes:
            apart = (target["proposals"].as_subclass(Tensor) - box).abs().amax(1)
            if apart.min() > NEAR:
                return f"moves the box {of}, but not the proposal that was the same", "Proposals are boxes, too."
    return None


def _box_problem(box: Tensor, outline: Tensor, points: Tensor) -> str:
    if not outline.any():
        return ""
    if (gap := _outside(_extent(outline), box)) > NEAR:
        return f"{gap:.1f} pixels too small for its outline"
    surrounding = torch.cat([points.amin(0), points.amax(0)])
    if (gap := _outside(box, surrounding)) > NEAR:
        return f"{gap:.1f} pixels larger than its outline"
    return ""


def _outside(inner: Tensor, outer: Tensor) -> float:
    """By how many pixels one box sticks out of another."""
    return float(torch.cat([outer[:2] - inner[:2], inner[2:] - outer[2:]]).max()) if len(inner) else 0.0


def _extent(bitmap: Tensor) -> Tensor:
    """The box (4,) around the pixels of a bitmap (H, W); (0,) where there is none."""
    y, x = bitmap.nonzero(as_tuple=True)
    return torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float() if len(x) else torch.zeros(0)


def _beyond(one: Tensor, other: Tensor) -> bool:
    """Whether a pixel of one bitmap (H, W) is more than some pixels from all of another's."""
    return bool((one & ~_near(other)).any())


def _near(bitmap: Tensor) -> Tensor:
    """A bitmap (H, W) and all that is within some pixels of it."""
    return max_pool2d(bitmap[None].float(), 2 * NEAR + 1, 1, NEAR)[0].bool()


def _points(target: Mapping[str, Any], row: int) -> Tensor:
    """The points (K, 2) of all outlines of an object."""
    of_points = target["owner"].repeat_interleave(target["offsets"].diff())
    points: Tensor = target["polygons"].as_subclass(Tensor)[of_points == row]
    return points


def rasterised(target: Mapping[str, Any], row: int, size: tuple[int, int]) -> Tensor:
    """The pixels (H, W) whose centre is inside an outline of an object, by the even-odd rule."""
    bitmap = torch.zeros(size, dtype=torch.bool)
    y, x = (torch.arange(side) + 0.5 for side in size)
    points, offsets = target["polygons"].as_subclass(Tensor).float(), target["offsets"].tolist()
    for number in (target["owner"] == row).nonzero()[:, 0].tolist():
        outline = points[offsets[number] : offsets[number + 1]]
        crossings = torch.zeros(size, dtype=torch.int64)
        for (x0, y0), (x1, y1) in zip(outline.tolist(), outline.roll(-1, 0).tolist(), strict=True):
            if y0 == y1:
                continue
            at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            crosses = (y >= min(y0, y1)) & (y < max(y0, y1))
            crossings += crosses[:, None] & (at[:, None] > x)
        bitmap |= crossings % 2 == 1
    return bitmap


def _pixel_problem(picture: Any, target: Mapping[str, Any]) -> Problem:
    """Objects are bright and what is around them is dark, or the other way round."""
    size = (picture.shape[-2], picture.shape[-1])
    if not {"polygons", "masks"} & set(target):  # of what was turned, corners of its box are not of it
        return None
    inside = torch.zeros(size, dtype=torch.bool)
    for row in range(len(target["boxes"])):
        seen = (
            rasterised(target, row, size) if "polygons" in target else target["masks"][row].as_subclass(Tensor).bool()
        )
        inside |= seen & ~_near(~seen)
    grey = picture.as_subclass(Tensor).float().mean(0)
    if min(int(inside.sum()), int((~inside).sum())) < 50:
        return None
    bright, dark = float(grey[inside].median()), float(grey[~inside].median())
    wrong = (grey[inside] - dark).abs() < (grey[inside] - bright).abs()
    if abs(bright - dark) < 20 or wrong.float().mean() > 0.2:
        return "does not move the image as it moves the boxes", "Objects are where their boxes are."
    return None
