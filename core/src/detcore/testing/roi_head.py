"""RoI heads: maps and proposals to losses and detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from detcore.data import seeded
from detcore.interfaces import Flow, RoIHead
from detcore.structures import Batch, Detections, Losses
from detcore.testing.compare import ConformanceError, different, during, unchanged
from detcore.testing.found import check_alone, check_found, found_something
from detcore.testing.inputs import CASES, FIRST, Size, batch_of, image_of, maps_of, proposals_of
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

ROI_MAPS = Flow(channels=(8,) * 5, strides=(4, 8, 16, 32, 64), num_classes=3)
"""What flows into a RoI head."""
REGIONS: dict[str, tuple[int, int]] = {
    "many proposals": (200, 20),
    "no proposal": (0, 0),
    "no proposal in one of the images": (5, 0),
}
"""How many proposals the two images have."""
USUAL = f"{FIRST} and many proposals"


def check_roi_head(
    make: Callable[..., RoIHead],
    *,
    flow: Flow = ROI_MAPS,
    size: Size = (128, 160),
    compiled: bool = False,
    **options: Any,
) -> None:
    """Losses of none, some and many objects and proposals; gradients; seeds; state; the detections; other modes.

    Targets have masks, so that branches learn, too.

    Args:
        make: The class, or a function that makes one; parameters with a marker (``num_classes: NumClasses``) are filled
            from ``flow``.
        flow: Channels and strides of the maps, and the number of classes.
        size: Height and width of the batch; its second image is smaller.
        compiled: Whether ``torch.compile`` must capture its losses, in one graph or several; takes seconds.
        options: Given to ``make``; they override ``flow``.

    Raises:
        ConformanceError: A contract is broken.
    """
    make_head, maps, classes = Maker(make, RoIHead, flow, options), maps_of(flow, size), flow.num_classes or 1
    head, batches = make_head(), {what: batch_of(*case, size, classes, masks=True) for what, case in CASES.items()}
    some = batches[FIRST]
    regions = {what: proposals_of(counts, some) for what, counts in REGIONS.items()}
    usual = regions["many proposals"]
    names, reached = _check_losses(head, maps, usual, some, USUAL)
    if not reached:
        raise ConformanceError(
            make_head.name, f"no gradient reaches its maps with {USUAL}", "The backbone learns through them."
        )
    for objects, batch in batches.items():
        for what, proposals in regions.items():
            case = f"{objects} and {what}"
            now, _ = _check_losses(head, maps, proposals, batch, case)
            check_same_terms(make_head.name, (now, ()), (names, ()), case, USUAL)
    _check_evaluation(head, maps, usual, some)
    check_state(make_head, lambda head: (head.losses(maps, usual, some), _found(head, maps, usual, some)))
    _check_detections(head.eval(), maps, regions, some, classes)
    _check_modes(head, maps, usual, some, classes=classes, compiled=compiled)


def _check_losses(
    head: Any, maps: Sequence[Tensor], proposals: Sequence[Detections], batch: Batch, what: str
) -> tuple[list[str], list[int]]:
    """Names of the losses, and numbers of the maps that gradients reach."""
    name, when = type(head).__name__, f"with {what}"
    leaves = [each.clone().requires_grad_() for each in maps]
    given = [each * 1 for each in leaves]  # else autograd refuses changes in place, which are to be found
    others = "its maps, its proposals or its batch"
    with seeded(1), unchanged(name, others, given, proposals, batch), during(name, f"in losses() {when}"):
        losses = head.losses(given, proposals, batch)
    check_terms(head, losses, when)
    return sorted(losses), [level for level, leaf in enumerate(leaves) if leaf.grad is not None]


def _check_evaluation(head: Any, maps: Sequence[Tensor], proposals: Sequence[Detections], batch: Batch) -> None:
    """The losses of validation are those of training, what drops out aside; no mode is changed on the way."""
    name = type(head).__name__
    for training in (False, True):
        head.train(training)
        for call in (head.losses, head.detections):
            with seeded(1), torch.no_grad(), during(name, f"in {call.__name__}() while training is {training}"):
                found: Losses | list[Detections] = call(maps, proposals, batch)
            if any(each.training != training for each in head.modules() if not _frozen(each)):
                what = f"{call.__name__}() puts a layer of it into the other mode than training = {training}"
                raise ConformanceError(name, what, "Who calls it says whether it trains.")
            if isinstance(found, dict) and not any("loss" in term for term in found):
                what = f"no name of {[*found]} contains `loss` while training is {training}"
                raise ConformanceError(name, what, "A validation asks for losses, too.")


def _frozen(layer: Any) -> bool:
    """Nothing of it trains: it may stay in evaluation mode."""
    return not any(each.requires_grad for each in layer.parameters())


def _check_detections(
    head: Any, maps: Sequence[Tensor], regions: dict[str, list[Detections]], batch: Batch, classes: int
) -> None:
    name = type(head).__name__

    def find() -> Any:
        for what, proposals in regions.items():
            check_found(name, _found(head, maps, proposals, batch), batch, classes, f"with {what}")
        return _found(head, maps, usual, batch)

    usual = regions["many proposals"]
    found = found_something(head, find)
    blind = _found(head, maps, usual, attrs.evolve(batch, targets=None))
    if difference := different(found, blind):
        raise ConformanceError(name, f"detections depend on the targets: {difference}", "At inference there are none.")
    alone = [
        _found(head, [each[image : image + 1] for each in maps], usual[image : image + 1], image_of(batch, image))
        for image in (0, 1)
    ]
    check_alone(name, found, [each for (each,) in alone])
    empty = _found(head, maps, regions["no proposal"], batch)
    if any(map(len, empty)):
        raise ConformanceError(name, "finds something where there is no proposal", "It looks at proposals only.")


def _found(head: Any, maps: Sequence[Tensor], proposals: Sequence[Detections], batch: Batch) -> Any:
    with seeded(2), torch.no_grad(), during(type(head).__name__, "in detections()"):
        return head.detections(maps, proposals, batch)


def _check_modes(
    head: Any, maps: Sequence[Tensor], proposals: Sequence[Detections], batch: Batch, *, classes: int, compiled: bool
) -> None:
    """Mixed precision, graphs, a GPU."""
    name = type(head).__name__

    def losses(head: Any, given: Any) -> Any:
        return head.losses(*given)

    head.train()
    check_autocast(name, lambda: head.losses(half(maps), proposals, batch), head.losses(maps, proposals, batch))
    if compiled:
        check_compiled(name, lambda maps: head.losses(maps, proposals, batch), maps, whole=False)
    check_pickled(head, losses, [list(maps), list(proposals), batch])
    check_on_gpu(head.train(), losses, [list(maps), list(proposals), batch])
    head.eval()
    with torch.autocast("cpu", torch.bfloat16):
        check_found(name, _found(head, half(maps), proposals, batch), batch, classes, "under bf16 autocast")
