"""Box heads: the numbers of a region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from detcore.data import seeded
from detcore.interfaces import BoxHead, Flow
from detcore.testing.compare import ConformanceError, different, during, kind
from detcore.testing.inputs import noise
from detcore.testing.modules import (
    Maker,
    check_autocast,
    check_compiled,
    check_gradients,
    check_on_gpu,
    check_pickled,
    check_state,
    half,
)

REGIONS = Flow(channels=(16,), roi_size=7, class_channels=4, box_channels=12)
"""What flows into a box head: the maps of regions, and how many logits and deltas are wanted."""


def check_box_head(
    make: Callable[..., BoxHead], *, flow: Flow = REGIONS, compiled: bool = False, **options: Any
) -> None:
    """Logits and deltas of many regions, one and none; gradients; each region by itself; seeds; state; other modes.

    Args:
        make: The class, or a function that makes one; parameters with a marker are filled from ``flow``.
        flow: Channels and side of the maps of regions, numbers of logits and deltas.
        compiled: Whether ``torch.compile`` must capture it as one graph; takes seconds.
        options: Given to ``make``; they override ``flow``.

    Raises:
        ConformanceError: A contract is broken.
    """
    make_head = Maker(make, BoxHead, flow, options)
    head, name = make_head(), make_head.name
    (channels,), side = flow.channels or (1,), flow.roi_size or 1
    maps = noise(32, channels, side, side)
    for count in (len(maps), 1, 0):
        leaf, when = maps[:count].clone().requires_grad_(), f"for {count} regions"
        with seeded(1), during(name, when):
            found = head(_extract(leaf))
        _check_rows(name, found, (count, flow.class_channels), (count, flow.box_channels), when)
        check_gradients(head, found[0].sum() + found[1].sum(), when)
        if leaf.grad is None:
            raise ConformanceError(name, f"no gradient reaches its regions {when}", "The backbone learns through them.")
    check_state(make_head, lambda head: list(head(_extract(maps))))
    _check_modes(name, head.eval(), maps, compiled)


@torch.no_grad()
def _check_modes(name: str, head: Any, maps: Tensor, compiled: bool) -> None:
    """In eval mode: each region by itself, mixed precision, a graph, a GPU."""

    def numbers(head: Any, maps: Tensor) -> list[Tensor]:
        return list(head(_extract(maps)))

    every = numbers(head, maps)
    if difference := different(numbers(head, maps[:5]), [each[:5] for each in every]):
        found = f"a region depends on the others in eval mode: {difference}"
        raise ConformanceError(name, found, "How many proposals there are changes no detection.")
    check_autocast(name, lambda: numbers(head, half(maps)), every)
    if compiled:
        check_compiled(name, lambda maps: numbers(head, maps), maps)
    check_pickled(head, numbers, maps)
    check_on_gpu(head, numbers, maps)


def _extract(maps: Tensor) -> Callable[..., Tensor]:
    """Cuts out these maps; with another scale, other ones."""
    return lambda scale=1.0: maps * scale


def _check_rows(name: str, found: Any, logits: Any, deltas: Any, when: str) -> None:
    shapes = [kind(each) for each in found] if isinstance(found, tuple) else type(found).__name__
    wanted = [f"{shape} float32" for shape in (logits, deltas)]
    if shapes != wanted:
        raise ConformanceError(name, f"gives {shapes} {when}, wanted is {wanted}", "They are class logits and deltas.")
    if not all(each.isfinite().all() for each in found):
        raise ConformanceError(name, f"a number is not finite {when}")
