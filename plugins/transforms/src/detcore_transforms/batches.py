"""Whole batches in other sizes: YOLOX (Ge et al. 2021, section 2.1, multi-scale training) and YOLOv3 before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import torch
from detcore.data import seeded
from detcore.errors import ConfigError
from detcore.interfaces import Callback
from detcore.structures import Batch, Polygons, Targets
from torch import Tensor, nn
from torch.nn import functional as F


class BatchSyncRandomResize(Callback):
    """In training all images of a batch, normalised and padded, are resized to one size, a new one from time to time.

    The size is a function of the run's seed and step: the same on all ranks and where a run is resumed. The first
    ``interval`` steps see batches as they come. Validation does so always.

    Args:
        random_size_range: The least and the largest height, pixels; the width follows from the batch's ratio.
        interval: Steps between sizes.
        size_divisor: Heights are multiples of it.

    Raises:
        ConfigError: There is no such height, or an interval without a step.
    """

    stage: ClassVar[str] = "update"

    def __init__(self, *, random_size_range: tuple[int, int], interval: int = 10, size_divisor: int = 32) -> None:
        if interval < 1 or size_divisor < 1:
            found = f"{interval} and {size_divisor}"
            raise ConfigError("BatchSyncRandomResize: interval, size_divisor", found, "Each is at least 1.")
        least, most = random_size_range
        self.heights = range(max(-(-least // size_divisor), 1) * size_divisor, most + 1, size_divisor)
        if not self.heights:
            found, fix = (
                f"{least} to {most} has no multiple of {size_divisor}",
                "Give the least and the largest height.",
            )
            raise ConfigError("BatchSyncRandomResize: random_size_range", found, fix)
        self.interval = interval
        self.divisor = size_divisor

    def run_started(self, run: Any) -> None:
        """From here on the detector is given other batches."""
        run.detector.register_forward_pre_hook(_resizing(self, lambda: (run.seed, run.step)), with_kwargs=True)

    def step_replayed(self, detector: Any, seed: int, step: int) -> None:
        """Batches have the size that they had at that step."""
        detector.register_forward_pre_hook(_resizing(self, lambda: (seed, step)), with_kwargs=True)

    def size(self, seed: int, step: int, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of a batch of this height and width at a step."""
        number = step // self.interval
        if number == 0:
            return shape[0], shape[1]
        with seeded(seed, number):
            height = self.heights[int(torch.randint(len(self.heights), ()))]
        return height, self.divisor * int(shape[1] / shape[0] * height / self.divisor)


Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]] | None]


def _resizing(callback: BatchSyncRandomResize, place: Callable[[], tuple[int, int]]) -> Hook:
    """A plain function: where a detector is copied, what belongs to the run is not."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a program for each step
    def hook(
        detector: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not detector.training:
            return None
        batch, *rest = args
        height, width = batch.images.shape[-2:]
        size = callback.size(*place(), (height, width))
        return None if size == (height, width) else ((resized(batch, size), *rest), kwargs)

    plain: Hook = hook
    return plain


def resized(batch: Batch, size: tuple[int, int]) -> Batch:
    """A batch whose images (B, 3, H, W), padding included, have another height and width; all in it moves along."""
    height, width = batch.images.shape[-2:]
    factor = batch.sizes.new_tensor([size[1] / width, size[0] / height])  # of x and y; sizes are of y and x
    proposals = batch.proposals
    if proposals is not None:
        proposals = [attrs.evolve(each, boxes=each.boxes * factor.repeat(2)) for each in proposals]
    return attrs.evolve(
        batch,
        images=F.interpolate(batch.images, size, mode="bilinear", align_corners=False),
        sizes=batch.sizes * factor.flip(0),
        padded=batch.padded * factor.flip(0),
        scale=batch.scale / factor,
        targets=None if batch.targets is None else _scaled(batch.targets, factor),
        proposals=proposals,
    )


def _scaled(targets: Targets, factor: Tensor) -> Targets:
    """Objects with x and y multiplied by ``factor`` (2,)."""
    masks = None if targets.masks is None else [_mask(each, factor) for each in targets.masks]
    return attrs.evolve(targets, boxes=targets.boxes * factor.repeat(2), masks=masks)


def _mask(mask: Tensor | Polygons, factor: Tensor) -> Tensor | Polygons:
    """Outlines move; bitmaps (G, h, w) of an image inside its padding are drawn anew."""
    if isinstance(mask, Polygons):
        return Polygons(mask.points * factor, mask.offsets, mask.owner)
    height, width = (round(side * by) for side, by in zip(mask.shape[-2:], factor.flip(0).tolist(), strict=True))
    return F.interpolate(mask[None].float(), (height, width), mode="nearest")[0].to(mask.dtype) if len(mask) else mask
