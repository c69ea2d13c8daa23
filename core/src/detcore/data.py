"""From a dataset's samples to batches, the same whatever the number of workers.

Every sample has a place: the epoch, its position in the epoch's order, its index in the dataset. The order is a pure
function of (seed, epoch), all randomness of a sample one of (seed, epoch, position). So a run does not depend on the
number of workers, and one that is resumed at a position needs nothing that a worker knew.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from typing import Any, TypeVar

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from detcore.errors import DataError, UserError
from detcore.interfaces import Dataset, Order
from detcore.report import Flaw
from detcore.structures import Detections, Polygons, Targets, clip_boxes

T = TypeVar("T")

Sample = tuple[Tensor, dict[str, Any]]
Place = tuple[int, int, int]
"""Where a sample comes in a run: epoch, position in the epoch's order, index in the dataset."""

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
        flaws: What the dataset had to live with when it read these samples.
        proposals: Per image its regions; None where the samples have none (``proposals`` and ``proposal_scores``).
    """

    images: Sequence[Tensor]
    originals: Tensor
    ids: Sequence[int | str]
    targets: Targets | None = None
    dropped: int = 0
    flaws: Sequence[Flaw] = ()
    proposals: Sequence[Detections] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def pin_memory(self) -> RawBatch:
        """The same with images in page-locked memory, from where they go to a GPU while it computes."""
        return attrs.evolve(self, images=[image.pin_memory() for image in self.images])


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
        ids=[int(each) if isinstance(each, Tensor) else each for each in (target["image_id"] for target in targets)],
        targets=pad_targets(targets) if all("boxes" in target for target in targets) else None,
        dropped=sum(target.get("dropped", 0) for target in targets),
        proposals=[_proposals(target) for target in targets] if all("proposals" in each for each in targets) else None,
    )


def _proposals(target: dict[str, Any]) -> Detections:
    """The regions of an image: boxes, which transforms move as they do those of objects, and scores."""
    boxes, scores = target["proposals"].as_subclass(Tensor).float(), target["proposal_scores"]
    return Detections(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64))


def pad_targets(targets: Sequence[dict[str, Any]]) -> Targets:
    """Targets of B images as one record; G is at least 1, so that no component meets an empty dimension.

    Masks stay one per image and have no padding rows.
    """
    rows = max(1, *(len(target["boxes"]) for target in targets))
    boxes = torch.zeros(len(targets), rows, 4)
    labels = torch.zeros(len(targets), rows, dtype=torch.int64)
    real, crowd = torch.zeros_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool)
    for image, target in enumerate(targets):
        here = image, slice(len(target["boxes"]))
        boxes[here] = target["boxes"].as_subclass(Tensor).float()
        labels[here] = target["labels"]
        real[here] = True
        crowd[here] = target["iscrowd"].bool() if "iscrowd" in target else False
    return Targets(boxes=boxes, labels=labels, valid=real & ~crowd, crowd=crowd, masks=_outlines(targets))


class Sanitize(Transform):  # type: ignore[misc]  # torchvision is not typed
    """Drops the objects that transforms made degenerate, each with all it has; the only transform that drops rows.

    An object stays when the part of its box inside the image is at least ``min_size`` pixels wide and high. How many
    went is added to ``target["dropped"]`` and comes up in the log.
    """

    def __init__(self, *, min_size: float = 1.0) -> None:
        super().__init__()
        self.min_size = min_size

    def forward(self, image: Any, target: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Image and target -> the same image, and a target with the objects that are left."""
        boxes = target["boxes"].as_subclass(Tensor)
        inside = clip_boxes(boxes, boxes.new_tensor(F.get_size(image)))
        return image, keep_rows(target, self.keeps(inside[:, 2:] - inside[:, :2]))

    def keeps(self, sizes: Tensor) -> Tensor:
        """(G,) bool: which objects stay; ``sizes`` (G, 2) are width and height of what of their boxes is inside."""
        return (sizes >= self.min_size).all(1)


def keep_rows(target: dict[str, Any], keep: Tensor) -> dict[str, Any]:
    """A target with the objects that ``keep`` (G,) says, each with all it has; the others are counted as dropped."""
    gone = int((~keep).sum())
    if not gone:
        return target
    kept = {name: tv_tensors.wrap(target[name][keep], like=target[name]) for name in ROWS if name in target}
    return {**target, **kept, **_keep_polygons(target, keep), "dropped": target.get("dropped", 0) + gone}


class Mixing(Transform):  # type: ignore[misc]  # torchvision is not typed
    """A transform that looks at other samples of the dataset too. It stands in a list of transforms as any other does.

    What it draws, partners too, comes from torch's generator, which is seeded for each sample.
    """

    def mix(self, image: Any, target: dict[str, Any], others: Samples) -> tuple[Any, dict[str, Any]]:
        """Image and target -> the same, with something of others; called in place of the transform itself."""
        raise NotImplementedError  # a subclass says what, as with torchvision's own ``transform``

    def forward(self, *sample: Any) -> Any:
        """There are no others where it is called as other transforms are. Raises DataError."""
        found = "looks at other samples of the dataset, and nobody gives it any"
        raise DataError(type(self).__name__, found, "Name it in [train].transforms itself, not inside of a transform.")


@attrs.frozen(eq=False)
class Samples:
    """The samples of a dataset, each as the first transform of a list is given it: a tensor and a named target."""

    dataset: Dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        with _about(f"image {index}", type(self.dataset).__name__):
            image, target = self.dataset[index]
            image = image if isinstance(image, Tensor) else F.to_image(image)
        return image, {"image_id": index, **target, "original": tuple(F.get_size(image))}

    def draw(self, transforms: Sequence[Transform] = ()) -> Sample:
        """A random one behind ``transforms``."""
        return self.through(int(torch.randint(len(self), ())), transforms)

    def through(self, index: int, transforms: Sequence[Transform]) -> Sample:
        """One behind ``transforms``. Raises DataError where it is not what it should be then."""
        image, target = self[index]
        name = f"image {index} (id {target['image_id']})"
        for transform in transforms:
            with _about(name, type(transform).__name__):
                mixes = isinstance(transform, Mixing)
                image, target = transform.mix(image, target, self) if mixes else transform(image, target)
        problem = sample_problem(image, target, len(self.dataset.classes))
        if problem:
            raise DataError(name, problem)
        return image, target


@attrs.frozen(eq=False)
class Loader:
    """Batches of a dataset, epoch by epoch.

    Workers keep the dataset and transforms that they were started with: whoever changes one replaces the loader, as
    ``attrs.evolve(run.loader, transforms=...)`` does.

    Attributes:
        dataset: The samples.
        transforms: Called one after the other on (image, target).
        batch_size: Samples per batch, of all ranks together: a run means the same with any number of them.
        workers: Processes that fetch; 0 fetches in this one. The batches do not depend on it.
        prefetch: Batches that each worker fetches ahead.
        persistent: Keep the workers from epoch to epoch.
        shuffle: A new order each epoch; else the dataset's.
        order: Which samples come when, where batches are shuffled; by default all of them.
        seed: Of order and transforms.
        drop_last: Leave out a last batch that is not full.
        pin: Put images into page-locked memory, for CUDA.
        rank: Which part of each batch is fetched here.
        world: How many parts there are.
    """

    dataset: Dataset
    transforms: Sequence[Transform] = ()
    batch_size: int = attrs.field(default=1, kw_only=True)
    workers: int = attrs.field(default=0, kw_only=True)
    prefetch: int = attrs.field(default=2, kw_only=True)
    persistent: bool = attrs.field(default=False, kw_only=True)
    shuffle: bool = attrs.field(default=False, kw_only=True)
    order: Order | None = attrs.field(default=None, kw_only=True)
    seed: int = attrs.field(default=0, kw_only=True)
    drop_last: bool = attrs.field(default=False, kw_only=True)
    pin: bool = attrs.field(default=False, kw_only=True)
    rank: int = attrs.field(default=0, kw_only=True)
    world: int = attrs.field(default=1, kw_only=True)
    _order: list[list[Place]] = attrs.field(factory=list, init=False)

    def __len__(self) -> int:
        """Batches per epoch. A last one that has no sample for each rank is left out where batches are shuffled."""
        whole, rest = divmod(len(self.dataset if self.order is None else self.order), self.batch_size)
        return whole + (rest > 0 and not self.drop_last and not (self.shuffle and rest < self.world))

    def places(self, epoch: int, start: int = 0) -> list[list[Place]]:
        """Which samples make up this rank's part of each batch of an epoch, from batch ``start`` on.

        A rank without a sample of its own has the first of the batch, a second time.
        """
        size, samples = self.batch_size, len(self.dataset)
        order: Sequence[int] = range(samples)
        if self.shuffle:
            order = self.order(self.seed, epoch) if self.order is not None else epoch_order(samples, self.seed, epoch)
        places = [(epoch, position, index) for position, index in enumerate(order)]
        batches = [places[batch * size : (batch + 1) * size] for batch in range(start, len(self))]
        return [self._part(batch) or batch[:1] for batch in batches]

    def _part(self, batch: Sequence[Place]) -> list[Place]:
        """This rank's; where batches are not shuffled, what one process alone would have as a batch."""
        share = len(batch) if self.shuffle else self.batch_size
        return [*batch[self.rank * share // self.world : (self.rank + 1) * share // self.world]]

    def epoch(self, number: int, start: int = 0) -> Iterator[RawBatch]:
        """The batches of an epoch, from batch ``start`` on.

        Raises:
            UserError: What a dataset or transform raised, with the image it was about.
        """
        self._order[:] = self.places(number, start)
        try:
            for batch in _begun(self._batches if self.persistent else self._engine()):
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            fix = "Use fewer workers or smaller batches if memory ran out."
            raise DataError("data loader", "a worker process died", fix) from error

    @cached_property
    def _batches(self) -> Any:
        return self._engine()

    def _engine(self) -> Any:
        return DataLoader(
            _Fetch(self.dataset, self.transforms, self.seed),  # type: ignore[arg-type]
            batch_size=None,
            sampler=self._order,
            num_workers=self.workers,
            prefetch_factor=self.prefetch if self.workers else None,
            persistent_workers=self.persistent and self.workers > 0,
            pin_memory=self.pin,
            worker_init_fn=_worker_started,
            generator=torch.Generator(),  # else it draws from the global generator, and resuming is not exact
        )


def _worker_started(number: int) -> None:
    """Signals that reach all processes of a run are the main one's affair: it ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # else a signal ends the worker, and so the run
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_for_parent, daemon=True).start()


def _end_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _begun(batches: Iterable[T]) -> Iterator[T]:
    """An iterator whose error, where a worker dies, comes when its batch is waited for.

    Torch would raise it, from a handler of signals, anywhere: in the middle of an update too.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(batches)
    before = signal.getsignal(signal.SIGCHLD)
    begun = iter(batches)
    signal.signal(signal.SIGCHLD, before)
    return begun


def epoch_order(samples: int, seed: int, epoch: int) -> list[int]:
    """The permutation of an epoch, a pure function of its arguments."""
    generator = torch.Generator().manual_seed(_mix(seed, epoch))
    order: list[int] = torch.randperm(samples, generator=generator).tolist()
    return order


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed the CPU generators of torch, numpy and random from ``numbers``; afterwards they are as they were."""
    before = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    _seed(*numbers)
    try:
        yield
    finally:
        torch.default_generator.set_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def _seed(*numbers: int) -> None:
    seed = _mix(*numbers)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the accelerators
    np.random.seed(seed % 2**32)
    random.seed(seed)


@attrs.frozen(eq=False)
class _Fetch:
    """What runs in a worker. Errors come back as values: DataLoader would make a text of them."""

    dataset: Dataset
    transforms: Sequence[Transform]
    seed: int

    def __getitem__(self, places: Sequence[Place]) -> RawBatch | UserError:
        report: list[Flaw] = getattr(self.dataset, "report", [])
        known = len(report)
        try:
            with seeded(self.seed):  # once a batch: what numpy needs to put its generator back is slow
                batch = collate([self.sample(place) for place in places])
        except UserError as error:
            return error
        return attrs.evolve(batch, flaws=tuple(report[known:]))

    def sample(self, place: Place) -> Sample:
        epoch, position, index = place
        _seed(self.seed, epoch, position)
        return Samples(self.dataset).through(index, self.transforms)


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


def sample_problem(image: Any, target: dict[str, Any], classes: int) -> str:
    """What is wrong with a transformed sample, or the empty string."""
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
        found = f"{tuple(image.shape)} {image.dtype}" if isinstance(image, Tensor) else type(image).__name__
        return f"the image must be a tensor (3, H, W) uint8, found {found}"
    if "boxes" not in target:
        return ""
    boxes, labels = target["boxes"], target.get("labels", ())
    layout = getattr(boxes, "format", tv_tensors.BoundingBoxFormat.XYXY)
    if boxes.shape[1:] != (4,) or layout is not tv_tensors.BoundingBoxFormat.XYXY:
        return f"boxes must be (G, 4) XYXY, found {tuple(boxes.shape)} {layout.value}"
    if not boxes.isfinite().all():
        return "a box has a coordinate that is not finite"
    for name in ROWS:
        rows = len(target.get(name, () if name == "labels" else boxes))
        if rows != len(boxes):
            return f"{len(boxes)} boxes, but {rows} rows of {name}"
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        return f"labels must be 0 to {classes - 1}, found {int(labels.min())} to {int(labels.max())}"
    return ""


def _outlines(targets: Sequence[dict[str, Any]]) -> list[Tensor | Polygons] | None:
    if all("polygons" in target for target in targets):
        points = [target["polygons"].as_subclass(Tensor).float() for target in targets]
        return [Polygons(each, of["offsets"], of["owner"]) for each, of in zip(points, targets, strict=True)]
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


def _mix(*numbers: int) -> int:
    """One well-mixed number of 63 bits from several, in their order."""
    return int.from_bytes(sha256(repr(numbers).encode()).digest()[:8], "big") >> 1
