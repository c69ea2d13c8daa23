"""Scoring a detector on a dataset, by one process or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import torch
from torch import nn

from detcore import distributed
from detcore.classes import agree
from detcore.data import Loader, RawBatch
from detcore.errors import DataError
from detcore.interfaces import Dataset, Evaluator
from detcore.preprocess import Preprocess, to_original
from detcore.report import Flaw
from detcore.results import Row, category_ids, to_rows
from detcore.runner.optim import Amp, autocast, within_memory
from detcore.structures import Batch, Detections, total_loss

Tick = Callable[[int, int], None]
"""Told after each batch: how many are done, of how many."""


@attrs.frozen(eq=False)
class Evaluation:
    """What came out of one pass over a dataset.

    Attributes:
        metrics: Of the evaluator, the main one first; the same on every rank.
        results: What was found, as rows of COCO's results JSON (on the first rank).
        samples: What was found in a few images, in original pixels, by index in the dataset (on the first rank).
        dataset: What was scored on.
        flaws: What the dataset had to live with while it was read (on the first rank).
    """

    metrics: Mapping[str, float]
    results: Sequence[Row] = ()
    samples: Mapping[int, Detections] = attrs.field(factory=dict)
    dataset: Dataset | None = None
    flaws: Sequence[Flaw] = ()


@attrs.frozen(eq=False)
class _Found:
    """What a rank found in its part of a batch.

    Attributes:
        images: Index in the dataset -> its name, its height and width, the detections on the CPU.
        losses: Means over the part.
        flaws: What the dataset had to live with.
    """

    images: Mapping[int, tuple[int | str, tuple[int, int], Detections]]
    losses: Mapping[str, float]
    flaws: Sequence[Flaw]


def evaluate(
    *,
    detector: nn.Module,
    preprocess: Preprocess,
    loader: Loader,
    evaluator: Evaluator,
    amp: Amp = "off",
    losses: bool = False,
    samples: int = 8,
    tick: Tick = lambda done, of: None,
) -> Evaluation:
    """All metrics of ``evaluator`` over one pass through ``loader``; the detector's modes are restored.

    Each rank reads its part of every batch; the first one is sent what the others found and scores it, each image once
    and in the dataset's order.

    Args:
        detector: A bare :class:`detcore.interfaces.Detector`.
        preprocess: On the device of the detector.
        loader: The data; not shuffled, nothing left out.
        evaluator: Fresh, made for the loader's dataset.
        amp: Mixed precision.
        losses: Compute the losses too, in a second pass of the network: ``val_loss``, ``val_loss_cls``, ...
        samples: In how many images what was found is kept.
        tick: Told how far it is.

    Raises:
        UserError: Of data, or memory that ran out.
    """
    dataset, flaws = loader.dataset, list[Flaw]()
    agree_on_evaluator(dataset, evaluator)
    ids, rows, means = category_ids(dataset), list[Row](), _Means()
    has_rows = evaluator.results() is not None
    chosen = set(range(0, len(dataset), -(-len(dataset) // samples)) if samples else ())
    kept: dict[int, Detections] = {}
    with evaluation_mode(detector), distributed.apart():
        for done, (places, raw) in enumerate(zip(loader.places(0), loader.epoch(0), strict=True), 1):
            with within_memory("evaluation", preprocess.device), autocast(preprocess.device, amp):
                found = _find(detector, preprocess(raw), raw, [index for _, _, index in places], losses)
            shares = distributed.gather(found)
            images: dict[int, tuple[int | str, tuple[int, int], Detections]] = {}
            for share in shares:
                means.add(share.losses, len(share.images.keys() - images.keys()))
                images |= share.images
                flaws += share.flaws
            evaluator.update([found for _, _, found in images.values()], [id_ for id_, _, _ in images.values()])
            for index, (id_, size, detections) in images.items():
                rows += [] if has_rows else to_rows(detections, id_, ids, size)
                if index in chosen:
                    kept[index] = detections
            tick(done, len(loader))
    first = distributed.rank() == 0
    metrics = distributed.broadcast({**evaluator.compute(), **means.values} if first else {})
    return Evaluation(metrics, evaluator.results() or rows, kept, dataset, flaws)


def agree_on_evaluator(dataset: Dataset, evaluator: Evaluator) -> None:
    """Raises ConfigError where an evaluator, as far as it tells, scores other classes than the dataset has."""
    scored = getattr(evaluator, "dataset", evaluator)
    if getattr(scored, "classes", None):
        fix = "It is made for the dataset that is evaluated on."
        agree(type(evaluator).__name__, {"annotations": dataset, "evaluator": scored}, fix)


def _find(detector: nn.Module, batch: Batch, raw: RawBatch, indices: Sequence[int], losses: bool) -> _Found:
    found = to_original(detector(batch, mode="detections"), batch)
    sizes = [(int(height), int(width)) for height, width in raw.originals.tolist()]
    images = dict(zip(indices, zip(raw.ids, sizes, map(_on_cpu, found), strict=True), strict=True))
    if not losses:
        return _Found(images, {}, raw.flaws)
    if batch.targets is None:
        raise DataError("val", "has no objects to compute losses of", "Leave out loss = true.")
    terms = detector(batch, mode="losses")
    means = {name: float(value) for name, value in {"loss": total_loss(terms), **terms}.items()}
    return _Found(images, means, raw.flaws)


def _on_cpu(found: Detections) -> Detections:
    masks = None if found.masks is None else found.masks.cpu()
    return Detections(found.boxes.cpu(), found.scores.cpu(), found.labels.cpu(), masks)


class _Means:
    """Means of losses over images."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.images = 0

    def add(self, losses: Mapping[str, float], images: int) -> None:
        self.images += images
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * images

    @property
    def values(self) -> dict[str, float]:
        return {f"val_{name}": value / max(self.images, 1) for name, value in self.sums.items()}


@contextmanager
def evaluation_mode(detector: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode and no gradients; afterwards each module is in the mode that it had.

    Not ``inference_mode``: a tensor that a module then keeps (priors of a size) could not take part in training.
    """
    modes = {module: module.training for module in detector.modules()}
    detector.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
