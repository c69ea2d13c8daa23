"""From a dataset's samples to batches, the same whatever the number of workers.

Every sample has a place: the epoch, its position in the epoch's order, its index in the dataset. The order is a pure
function of (seed, epoch), all randomness of a sample one of (seed, epoch, position). So a run does not depend on the
number of workers, and one that is resumed at a position needs nothing that a worker knew.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from detcore.errors import DataError, UserError
from detcore.interfaces import Dataset
from detcore.structures import Polygons, Targets

Sample = tuple[Tensor, dict[str, Any]]
Transform = Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]
"""A transform of torchvision.transforms.v2, or anything that is called as one."""

ROWS = ("boxes", "labels", "area", "iscrowd", "masks")
"""Entries of a target that have one row per object. (``polygons``, ``offsets`` and ``owner`` are handled beside.)"""


@attrs.frozen(eq=False)
class RawBatch:
    """Samples side by side on the CPU, as :class:`detcore.preprocess.Preprocess` reads them.

    Attributes:
        images: B images (3, H_i, W_i) uint8, RGB.
        originals: (B, 2) float32, height and width of each image before the transforms.
        ids: B identifiers, as the dataset names the images.
        targets: The objects, padded to the most that one of the images has; None where the samples have no boxes.
        dropped: How many objects :class:`Sanitize` dropped.
    """

    images: Sequence[Tensor]
    originals: Tensor
    ids: Sequence[int | str]
    targets: Targets | None = None
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def pin_memory(self) -> RawBatch:
        """The same with images in page-locked memory, from where they go to a GPU while it computes."""
        return attrs.evolve(self, images=[image.pin_memory() for image in self.images])


class Place(NamedTuple):
    """Where a sample comes in a run."""

    epoch: int
    position: int
    index: int


def collate(samples: Sequence[Sample]) -> RawBatch:
    """Transformed samples as one batch.

    ``target["original"]``, (height, width), says how large an image was before its transforms; it counts as
    untransformed without.
    """
    images = [image.as_subclass(Tensor) for image, _ in samples]
    targets = [target for _, target in samples]
    originals = [target.get("original", image.shape[-2:]) for image, target in zip(images, targets, strict=True)]
    return RawBatch(
        images=images,
        originals=torch.tensor(originals, dtype=torch.float32),
        ids=[_plain_id(target["image_id"]) for target in targets],
        targets=pad_targets(targets) if all("boxes" in target for target in targets) else None,
        dropped=sum(target.get("dropped", 0) for target in targets),
    )


def pad_targets(targets: Sequence[dict[str, Any]]) -> Targets:
    """Targets of B images as one record; G is at least 1, so that no component meets an empty dimension.

    Masks stay one per image and have no padding rows.
    """
    boxes = [target["boxes"].as_subclass(Tensor).float() for target in targets]
    real = [torch.ones(len(rows), dtype=torch.bool) for rows in boxes]
    crowd = [
        target["iscrowd"].bool() if "iscrowd" in target else torch.zeros_like(rows)
        for target, rows in zip(targets, real, strict=True)
    ]
    one = boxes[0].new_zeros(1, 4)  # pads all others to one row; taken off again
    pad = partial(pad_sequence, batch_first=True)
    is_crowd = pad([*crowd, one[:, 0].bool()])[:-1]
    return Targets(
        boxes=pad([*boxes, one])[:-1],
        labels=pad([*(target["labels"].long() for target in targets), one[:, 0].long()])[:-1],
        valid=pad([*real, one[:, 0].bool()])[:-1] & ~is_crowd,
        crowd=is_crowd,
        masks=_outlines(targets),
    )


class Sanitize(nn.Module):
    """Drops the objects that transforms made degenerate, each with all it has; the only transform that drops rows.

    An object stays when the part of its box inside the image is at least ``min_size`` pixels wide and high. How many
    went is added to ``target["dropped"]`` and comes up in the log.
    """

    def __init__(self, *, min_size: float = 1.0) -> None:
        super().__init__()
        self.min_size = min_size

    def forward(self, image: Any, target: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Image and target -> the same image, and a target with the objects that are left."""
        height, width = F.get_size(image)
        x1, y1, x2, y2 = target["boxes"].as_subclass(Tensor).unbind(-1)
        keep = (x2.clamp(max=width) - x1.clamp(min=0) >= self.min_size) & (
            y2.clamp(max=height) - y1.clamp(min=0) >= self.min_size
        )
        gone = int((~keep).sum())
        if not gone:
            return image, target
        kept = {name: tv_tensors.wrap(target[name][keep], like=target[name]) for name in ROWS if name in target}
        return image, {**target, **kept, **_keep_polygons(target, keep), "dropped": target.get("dropped", 0) + gone}

    def extra_repr(self) -> str:
        """For ``print``."""
        return f"min_size={self.min_size}"


class Loader:
    """Batches of a dataset, epoch by epoch.

    Workers are started anew for each epoch, so that what a callback changed in a dataset or transform takes effect.

    Args:
        dataset: The samples.
        transforms: Called one after the other on (image, target).
        batch_size: Samples per batch.
        workers: Processes that fetch; 0 fetches in this one. The batches do not depend on it.
        shuffle: A new order each epoch; else the dataset's.
        seed: Of order and transforms.
        drop_last: Leave out a last batch that is not full.
        pin: Put images into page-locked memory, for CUDA.
    """

    def __init__(
        self,
        dataset: Dataset,
        transforms: Sequence[Transform] = (),
        *,
        batch_size: int,
        workers: int = 0,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        pin: bool = False,
    ) -> None:
        self.dataset = dataset
        self.transforms = transforms
        self.batch_size = batch_size
        self.workers = workers
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.pin = pin

    def __len__(self) -> int:
        """Batches per epoch."""
        samples = len(self.dataset)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def places(self, epoch: int, start: int = 0) -> list[list[Place]]:
        """Which samples make up each batch of an epoch, from batch ``start`` on."""
        size, samples = self.batch_size, len(self.dataset)
        order = epoch_order(samples, self.seed, epoch) if self.shuffle else range(samples)
        places = [Place(epoch, position, index) for position, index in enumerate(order)]
        return [places[batch * size : (batch + 1) * size] for batch in range(start, len(self))]

    def epoch(self, number: int, start: int = 0) -> Iterator[RawBatch]:
        """The batches of an epoch, from batch ``start`` on.

        Raises:
            UserError: What a dataset or transform raised, with the image it was about.
        """
        batches: Any = DataLoader(
            _Fetch(self.dataset, self.transforms, self.seed),  # type: ignore[arg-type]
            batch_size=None,
            sampler=self.places(number, start),  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=self.pin,
            generator=torch.Generator(),  # else it draws from the global generator, and resuming is not exact
        )
        try:
            for batch in batches:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            fix = "Use fewer workers or smaller batches if memory ran out."
            raise DataError("data loader", "a worker process died", fix) from error


def epoch_order(samples: int, seed: int, epoch: int) -> list[int]:
    """The permutation of an epoch, a pure function of its arguments."""
    generator = torch.Generator().manual_seed(_mix(seed, epoch))
    order: list[int] = torch.randperm(samples, generator=generator).tolist()
    return order


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed the CPU generators of torch, numpy and random from ``numbers``; afterwards they are as they were."""
    before = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    seed = _mix(*numbers)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the accelerators
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


class _Fetch:
    """What runs in a worker. Errors come back as values: DataLoader would make a text of them."""

    def __init__(self, dataset: Dataset, transforms: Sequence[Transform], seed: int) -> None:
        self.dataset = dataset
        self.transforms = transforms
        self.seed = seed

    def __getitem__(self, places: Sequence[Place]) -> RawBatch | UserError:
        try:
            return collate([self.sample(place) for place in places])
        except UserError as error:
            return error

    def sample(self, place: Place) -> Sample:
        with seeded(self.seed, place.epoch, place.position):
            with _about(f"image {place.index}", type(self.dataset).__name__):
                image, target = self.dataset[place.index]
                image = image if isinstance(image, Tensor) else F.to_image(image)
            name = f"image {place.index} (id {target.get('image_id', 'missing')})"
            target = {"image_id": place.index, **target, "original": tuple(F.get_size(image))}
            for transform in self.transforms:
                with _about(name, f"transform {type(transform).__name__}"):
                    image, target = transform(image, target)
        problem = _problem(image, target, len(self.dataset.classes))
        if problem:
            raise DataError(name, problem)
        return image, target


@contextmanager
def _about(image: str, source: str) -> Iterator[None]:
    """Every error inside becomes a UserError that names the image and crosses process borders."""
    try:
        yield
    except UserError as error:
        error.where = f"{error.where} ({image})" if error.where else image
        raise
    except Exception as error:
        wrapped = DataError(image, f"{source} raised {type(error).__name__}: {' '.join(str(error).split())}")
        wrapped.add_note(traceback.format_exc())
        raise wrapped from error


def _problem(image: Any, target: dict[str, Any], classes: int) -> str:
    """What is wrong with a transformed sample, or the empty string."""
    if not isinstance(image, Tensor):
        return f"the image must be a tensor (3, H, W) uint8, found {type(image).__name__}"
    if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
        return f"the image must be (3, H, W) uint8, found {tuple(image.shape)} {image.dtype}"
    if "boxes" not in target:
        return ""
    if "labels" not in target:
        return "the target has boxes, but no labels"
    boxes, labels = target["boxes"], target["labels"]
    layout = getattr(boxes, "format", None)
    if boxes.ndim != 2 or boxes.shape[-1] != 4 or (layout is not None and layout.value != "XYXY"):
        return f"boxes must be (G, 4) XYXY, found {tuple(boxes.shape)} {layout.value if layout else ''}".rstrip()
    if not boxes.isfinite().all():
        return "a box has a coordinate that is not finite"
    for name in ROWS:
        if name in target and len(target[name]) != len(boxes):
            return f"{len(boxes)} boxes, but {len(target[name])} rows of {name}"
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        return f"labels must be 0 to {classes - 1}, found {int(labels.min())} to {int(labels.max())}"
    return ""


def _outlines(targets: Sequence[dict[str, Any]]) -> list[Tensor | Polygons] | None:
    if all("polygons" in target for target in targets):
        return [
            Polygons(target["polygons"].as_subclass(Tensor).float(), target["offsets"], target["owner"])
            for target in targets
        ]
    if all("masks" in target for target in targets):
        return [target["masks"].as_subclass(Tensor).to(torch.uint8) for target in targets]
    return None


def _keep_polygons(target: dict[str, Any], keep: Tensor) -> dict[str, Any]:
    """The outlines of the objects that are kept, renumbered."""
    if "polygons" not in target:
        return {}
    points, offsets, owner = target["polygons"], target["offsets"], target["owner"]
    lengths, stays = offsets.diff(), keep[owner]
    return {
        "polygons": tv_tensors.wrap(points[stays.repeat_interleave(lengths)], like=points),
        "offsets": torch.cat([offsets[:1], lengths[stays].cumsum(0)]),
        "owner": (keep.cumsum(0) - 1)[owner[stays]],
    }


def _plain_id(value: Any) -> int | str:
    return value.item() if isinstance(value, Tensor) else value


def _mix(*numbers: int) -> int:
    """One well-mixed number of 64 bits from several."""
    words = [number % 2**64 for number in numbers]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def _as_it_is(batch: Any) -> Any:
    return batch
