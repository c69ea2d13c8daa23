"""Datasets: images with objects, by number."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from detcore.data import sample_problem
from detcore.interfaces import Dataset
from detcore.polygons import PolygonPoints
from detcore.report import Flaw
from detcore.testing.compare import ConformanceError, different, during
from detcore.testing.worker import in_worker

Size = tuple[int, int]


def check_dataset(dataset: Dataset, *, samples: int = 20, workers: bool = True) -> None:
    """Classes; the convention of :class:`detcore.interfaces.Dataset`; unique ids; equal reads; flaws; other processes.

    Args:
        dataset: Before any transform.
        samples: How many images are read, evenly spread.
        workers: Whether it is read in a fresh process, too, as a data loader's worker reads it.

    Raises:
        ConformanceError: A contract is broken.
    """
    name = type(dataset).__name__
    if not isinstance(dataset, Dataset):
        raise ConformanceError(name, "is no Dataset", "It has classes, __len__ and __getitem__.")
    classes, length = dataset.classes, len(dataset)
    if isinstance(classes, str) or not classes or len(set(classes)) < len(classes):
        raise ConformanceError(name, f"classes are {classes!r}", "They are names, at least one, each once.")
    if not length:
        raise ConformanceError(name, "has no images", "An empty dataset is a DataError where it is made.")
    with during(name, "when it is pickled, as workers need it"):
        twin = pickle.loads(pickle.dumps(dataset))
    indices = range(0, length, -(-length // samples))
    read = {index: _read(name, dataset, index, len(classes)) for index in indices}
    _check_ids(name, [read[index][1]["image_id"] for index in indices])
    _check_flaws(name, dataset)
    for index in reversed(indices):  # backwards: what was read before must not matter
        with during(name, f"in [{index}]"):
            _check_same(name, index, "read from a copy, in another order", read[index], twin[index])
    if workers:
        last = indices[-1]
        with during(name, f"in [{last}] of a fresh process"):
            found = in_worker(sample_of, dataset, last)
        _check_same(name, last, "read in a fresh process", read[last], found)


def sample_of(dataset: Dataset, index: int) -> Any:
    """``dataset[index]``; a name that a worker can find."""
    return dataset[index]


def _read(name: str, dataset: Dataset, index: int, classes: int) -> Any:
    """A sample, which is sound, and the same when it is read again."""
    with during(name, f"in [{index}]"):
        first = dataset[index]
    if problem := _problem(first, classes):
        raise ConformanceError(name, f"[{index}]: {problem}", "See detcore.interfaces.Dataset.")
    with during(name, f"in [{index}]"):
        _check_same(name, index, "read again", first, dataset[index])
    return first


def _check_same(name: str, index: int, what: str, first: Any, other: Any) -> None:
    if difference := different(first, other):
        raise ConformanceError(name, f"[{index}] is another when {what}: {difference}", "Chance: transforms.")


def _check_ids(name: str, ids: Sequence[int | str]) -> None:
    twice = [each for each, count in Counter(ids).items() if count > 1]
    if twice:
        raise ConformanceError(name, f"image_id {twice[0]!r} is that of two images", "Each image has its own.")


def _check_flaws(name: str, dataset: Any) -> None:
    """What it had to live with is a list of flaws, to which reading adds."""
    flaws = getattr(dataset, "report", [])
    if not isinstance(flaws, list) or not all(isinstance(each, Flaw) for each in flaws):
        what = f"a {type(flaws).__name__}" if not isinstance(flaws, list) else "a list of other things"
        raise ConformanceError(name, f"report is {what}", "It is a list of detcore.report.Flaw, if there is one.")


def _problem(sample: Any, classes: int) -> str:
    """What is wrong with a sample of a dataset, or the empty string."""
    if not (isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[1], dict)):
        return "it must be a tuple (image, target) with a dict as target"
    image, target = sample
    kinds = {"boxes": tv_tensors.BoundingBoxes, "labels": Tensor, "image_id": (int, str)}
    for key, kind in {**kinds, "masks": tv_tensors.Mask, "polygons": PolygonPoints}.items():
        if key not in target and key in kinds:
            return f"the target has no {key}"
        if key in target and not isinstance(target[key], kind):
            wanted = "int or str" if isinstance(kind, tuple) else kind.__name__
            return f"{key} must be {wanted}, found {type(target[key]).__name__}"
    if not isinstance(image, tv_tensors.Image):
        return f"the image must be a tv_tensors.Image, found a {type(image).__name__}"
    boxes, labels = target["boxes"], target["labels"]
    if problem := sample_problem(image, target, classes):
        return problem
    if boxes.dtype != torch.float32 or labels.dtype != torch.int64:
        return f"boxes must be float32 and labels int64, found {boxes.dtype} and {labels.dtype}"
    height, width = image.shape[-2:]
    if boxes.canvas_size != (height, width):
        return f"boxes lie on a canvas of {boxes.canvas_size}, but the image is {(height, width)} (height, width)"
    corners = boxes.as_subclass(Tensor)
    if not (corners[:, 2:] > corners[:, :2]).all():
        return "a box has no area"
    if (corners < -1).any() or (corners > torch.tensor([width, height, width, height]) + 1).any():  # 1: rounded ones
        return f"a box is outside the image of {height} x {width}"
    return outline_problem(target, len(boxes), (height, width))


def outline_problem(target: Mapping[str, Any], objects: int, size: Size) -> str:
    """What is wrong with masks and outlines of so many objects, or the empty string."""
    if "masks" in target and tuple(target["masks"].shape) != (objects, *size):
        return f"masks must be {(objects, *size)}, found {tuple(target['masks'].shape)}"
    if "polygons" not in target:
        return ""
    if not {"offsets", "owner"} <= set(target):
        return "polygons come with offsets and owner"
    points, offsets, owner = (target[key].tolist() for key in ("polygons", "offsets", "owner"))
    if offsets[0] != 0 or offsets[-1] != len(points) or offsets != sorted(offsets) or len(offsets) != len(owner) + 1:
        return f"offsets must rise from 0 to the {len(points)} points, one more than outlines"
    return "" if all(0 <= each < objects for each in owner) else "an outline is of an object that is not there"
