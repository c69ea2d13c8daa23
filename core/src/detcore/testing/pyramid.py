"""Backbones and necks: what gives a pyramid of maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detcore.data import seeded
from detcore.interfaces import Backbone, Flow, Neck
from detcore.testing.compare import ConformanceError, different, during, tensors, unchanged
from detcore.testing.inputs import Size, maps_of, noise
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

SIZES: Sequence[Size] = ((64, 96), (97, 131), (71, 64))
"""Heights and widths of images; odd ones, too."""
MAPS = Flow(channels=(8, 16, 24, 32), strides=(4, 8, 16, 32))
"""What flows into a neck."""


def check_backbone(
    make: Callable[..., Backbone],
    *,
    sizes: Sequence[Size] = SIZES,
    compiled: bool = False,
    pickled: bool = True,
    **options: Any,
) -> None:
    """Declared channels and strides against the maps; gradients; seeds; state; each image by itself; other modes.

    Args:
        make: The class, or anything that makes one.
        sizes: Heights and widths of images that it must read.
        compiled: Whether ``torch.compile`` must capture it as one graph; takes seconds.
        pickled: Whether it must be one that can be pickled; a long graph of ``torch.fx`` cannot.
        options: Given to ``make``.

    Raises:
        ConformanceError: A contract is broken.
    """
    module = _check_pyramid(Maker(make, Backbone, Flow(), options), sizes, lambda size: noise(2, 3, *size), compiled)
    if pickled:
        check_pickled(module, _maps, noise(2, 3, *sizes[0]))


def check_neck(
    make: Callable[..., Neck],
    *,
    flow: Flow = MAPS,
    sizes: Sequence[Size] = SIZES,
    compiled: bool = False,
    **options: Any,
) -> None:
    """As :func:`check_backbone`; nor may it change the maps it reads.

    Args:
        make: The class, or a function that makes one; parameters with a marker are filled from ``flow``.
        flow: Channels and strides of the maps it reads; ``Channels[int]`` needs equal channels.
        sizes: Heights and widths of the images.
        compiled: Whether ``torch.compile`` must capture it as one graph; takes seconds.
        options: Given to ``make``; they override ``flow``.

    Raises:
        ConformanceError: A contract is broken.
    """
    module = _check_pyramid(Maker(make, Neck, flow, options), sizes, lambda size: maps_of(flow, size), compiled)
    check_pickled(module, _maps, maps_of(flow, sizes[0]))


def _check_pyramid(make: Maker, sizes: Sequence[Size], inputs: Callable[[Size], Any], compiled: bool) -> Any:
    module = make()
    for size in sizes:
        given, when = inputs(size), f"on images of {size[0]} x {size[1]}"
        with seeded(1), unchanged(make.name, "what it reads", given), during(make.name, when):
            maps = module(given)
        _check_maps(module, maps, size)
    check_gradients(module, sum(each.sum() for each in maps), when)
    given = inputs(sizes[0])
    check_state(make, lambda module: _maps(module, given))
    _check_modes(make.name, module.eval(), given, compiled)
    return module


def _maps(module: Any, given: Any) -> list[Tensor]:
    return list(module(given))


@torch.no_grad()
def _check_modes(name: str, module: Any, given: Any, compiled: bool) -> None:
    """In eval mode: each image by itself, mixed precision, a graph, a GPU."""
    maps = _maps(module, given)
    alone = _maps(module, tensors(given, lambda each: each[1:]))
    if difference := different([each[1:] for each in maps], alone, rtol=1e-3, atol=1e-4):
        found = f"an image depends on the others of its batch in eval mode: {difference}"
        raise ConformanceError(name, found, "What is found in an image is the same in every batch.")
    check_autocast(name, lambda: _maps(module, half(given)), maps)
    if compiled:
        check_compiled(name, lambda given: _maps(module, given), given)
    check_on_gpu(module, _maps, given)


def _check_maps(module: Any, maps: Sequence[Tensor], size: Size) -> None:
    name, of = type(module).__name__, f"of images of {size[0]} x {size[1]}"
    if not len(module.out_channels) == len(module.strides) == len(maps):
        declared = f"{len(module.out_channels)} out_channels and {len(module.strides)} strides"
        raise ConformanceError(name, f"declares {declared}, but returns {len(maps)} maps", "One of each per map.")
    for level, (each, channels, stride) in enumerate(zip(maps, module.out_channels, module.strides, strict=True)):
        wanted = (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        if tuple(each.shape) != wanted:
            found = f"map {level} {of} has the shape {tuple(each.shape)}, declared is {wanted}"
            raise ConformanceError(name, found, "It is (B, out_channels, H / stride and W / stride, rounded up).")
        if each.dtype != torch.float32 or not each.isfinite().all():
            what = each.dtype if each.dtype != torch.float32 else "not finite"
            raise ConformanceError(name, f"map {level} {of} is {what}", "Float32 images give finite float32 maps.")
