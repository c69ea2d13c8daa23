"""Dense heads: maps to losses and detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from detcore.data import seeded
from detcore.interfaces import DenseHead, Flow
from detcore.structures import Batch
from detcore.testing.compare import ConformanceError, different, during, unchanged
from detcore.testing.found import check_alone, check_found, found_something
from detcore.testing.inputs import CASES, FIRST, Size, batch_of, image_of, maps_of
from detcore.testing.learning import check_same_terms, check_terms
from detcore.testing.modules import (
    Maker,
    check_autocast,
    check_compiled,
    check_on_gpu,
    check_pickled,
    check_state,
    half,
)

HEAD_MAPS = Flow(channels=(16,) * 5, strides=(8, 16, 32, 64, 128), num_classes=3)
"""What flows into a dense head."""


def check_dense_head(
    make: Callable[..., DenseHead],
    *,
    flow: Flow = HEAD_MAPS,
    size: Size = (128, 160),
    compiled: bool = False,
    **options: Any,
) -> None:
    """Losses of none, some and many objects and of crowds; gradients; seeds; state; the detections; other modes.

    Args:
        make: The class, or a function that makes one; parameters with a marker (``in_channels: Channels[int]``,
            ``strides: Strides[Sequence[int]]``, ``num_classes: NumClasses``) are filled from ``flow``.
        flow: Channels and strides of the maps, and the number of classes.
        size: Height and width of the batch; its second image is smaller.
        compiled: Whether ``torch.compile`` must capture its losses, in one graph or several; takes seconds.
        options: Given to ``make``; they override ``flow``.

    Raises:
        ConformanceError: A contract is broken.
    """
    make_head, maps, classes = Maker(make, DenseHead, flow, options), maps_of(flow, size), flow.num_classes or 1
    head, batches = make_head(), {what: batch_of(*case, size, classes) for what, case in CASES.items()}
    first = _check_losses(head, maps, batches[FIRST], FIRST)
    for what, batch in batches.items():
        check_same_terms(make_head.name, _check_losses(head, maps, batch, what), first, what)
    some = batches[FIRST]
    check_state(make_head, lambda head: (head.losses(head(maps, some), some), _found(head, maps, some)))
    _check_detections(head.eval(), maps, some, classes)
    _check_modes(head, maps, some, classes, compiled)


def _check_losses(head: Any, maps: Sequence[Tensor], batch: Batch, what: str) -> tuple[list[str], list[str]]:
    """Names of the losses, and numbers of the maps that gradients reach."""
    name, when = type(head).__name__, f"with {what}"
    leaves = [each.clone().requires_grad_() for each in maps]
    given = [each * 1 for each in leaves]  # else autograd refuses changes in place, which are to be found
    with seeded(1), unchanged(name, "its maps or its batch", given, batch), during(name, f"in losses() {when}"):
        losses = head.losses(head(given, batch), batch)
    check_terms(head, losses, when)
    reached = [str(level) for level, leaf in enumerate(leaves) if leaf.grad is not None]
    if not reached:
        raise ConformanceError(name, f"no gradient reaches its maps {when}", "The backbone learns through them.")
    return sorted(losses), reached


def _check_detections(head: Any, maps: Sequence[Tensor], batch: Batch, classes: int) -> None:
    name = type(head).__name__

    def find(train: bool) -> Any:
        found = _found(head, maps, batch, train=train)
        check_found(name, found, batch, classes)
        return found

    found = found_something(head, lambda: [find(train) for train in (True, False)][-1])
    blind = _found(head, maps, attrs.evolve(batch, targets=None))
    if difference := different(found, blind):
        raise ConformanceError(name, f"detections depend on the targets: {difference}", "At inference there are none.")
    alone = [_found(head, [each[image : image + 1] for each in maps], image_of(batch, image)) for image in (0, 1)]
    check_alone(name, found, [each for (each,) in alone])


def _found(head: Any, maps: Sequence[Tensor], batch: Batch, *, train: bool = False) -> Any:
    with seeded(2), torch.no_grad(), during(type(head).__name__, f"in detections(train={train})"):
        return head.detections(head(maps, batch), batch, train=train)


def _check_modes(head: Any, maps: Sequence[Tensor], batch: Batch, classes: int, compiled: bool) -> None:
    """Mixed precision, graphs, a GPU."""
    name = type(head).__name__

    def losses(head: Any, given: Any) -> Any:
        maps, batch = given
        return head.losses(head(maps, batch), batch)

    head.train()
    check_autocast(name, lambda: losses(head, (half(maps), batch)), losses(head, (maps, batch)))
    if compiled:
        check_compiled(name, lambda maps: losses(head, (maps, batch)), maps, whole=False)
    check_pickled(head, losses, [list(maps), batch])
    check_on_gpu(head.train(), losses, [list(maps), batch])
    head.eval()
    with torch.autocast("cpu", torch.bfloat16):
        check_found(name, _found(head, half(maps), batch), batch, classes, "under bf16 autocast")
