"""The one place that normalises and pads images, and the one place that scales detections back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import attrs
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from detcore.data import RawBatch
from detcore.structures import Batch, Detections, Polygons, Targets, clip_boxes


class Preprocess(nn.Module):
    """Raw batches to what a detector reads, on the device this module is on.

    Args:
        mean: Subtracted, per channel in the order that ``color`` says; grey levels, 0 to 255.
        std: Divides, likewise.
        color: The order of channels that the network reads.
        divisor: Height and width of a batch are multiples of it.
        size: (height, width) that each image is padded to at least.
        buckets: Sizes (height, width) of batches: each is padded to the smallest that holds it, so that there are few
            to compile for; one that none holds keeps its size.
        pad_value: What stands in the padding.
        pad: Whether ``pad_value`` is set ``after`` normalising, or ``before`` and is normalised with the image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        mean: tuple[float, float, float] = (123.675, 116.28, 103.53),
        std: tuple[float, float, float] = (58.395, 57.12, 57.375),
        color: Literal["rgb", "bgr"] = "rgb",
        divisor: PositiveInt = 32,
        size: tuple[int, int] | None = None,
        buckets: Sequence[tuple[int, int]] = (),
        pad_value: float = 0.0,
        pad: Literal["after", "before"] = "after",
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.color = color
        self.divisor = divisor
        self.size = size
        self.buckets = buckets
        self.pad_value = pad_value
        self.pad = pad

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked for, in plain values; travels with checkpoints."""
        plain = {name: getattr(self, name) for name in ("color", "divisor", "pad_value", "pad")}
        size = None if self.size is None else list(self.size)
        buckets = [list(bucket) for bucket in self.buckets]
        numbers = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        return {**plain, **numbers, "size": size, "buckets": buckets}

    @property
    def device(self) -> torch.device:
        """Where batches come out."""
        return self.mean.device

    def forward(self, raw: RawBatch, progress: float = 0.0) -> Batch:
        """Normalise, pad at the bottom and right, move to the device; no synchronisation where ``raw`` is pinned.

        Args:
            raw: B images.
            progress: How far training is, 0 to 1.
        """
        sizes = torch.tensor([image.shape[-2:] for image in raw.images])
        least = torch.tensor(self.size or (1, 1))
        padded = -(-torch.maximum(sizes, least) // self.divisor) * self.divisor
        height, width = self._bucket(*padded.amax(0).tolist())
        canvas = torch.zeros(len(raw), 3, height, width, dtype=torch.uint8, device=self.device)
        for place, image in zip(canvas, raw.images, strict=True):
            place[:, : image.shape[1], : image.shape[2]] = image.to(self.device, non_blocking=True)
        on_device = self._to(sizes.float())
        return Batch(
            images=self._normalise(canvas, on_device),
            sizes=on_device,
            padded=self._to(padded.float()),
            scale=self._to((raw.originals / sizes).flip(-1)),
            ids=raw.ids,
            targets=None if raw.targets is None else self._move(raw.targets),
            progress=progress,
            proposals=None if raw.proposals is None else [each.each(self._to) for each in raw.proposals],
        )

    def _bucket(self, height: int, width: int) -> tuple[int, int]:
        holding = [bucket for bucket in self.buckets if bucket[0] >= height and bucket[1] >= width]
        return min(holding, key=lambda bucket: bucket[0] * bucket[1], default=(height, width))

    def _normalise(self, canvas: Tensor, sizes: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB, (B, 2) heights and widths inside the padding -> float32."""
        values = (canvas.flip(1) if self.color == "bgr" else canvas).float()
        rows = torch.arange(canvas.shape[-2], device=self.device)[:, None] < sizes[:, 0, None, None, None]
        columns = torch.arange(canvas.shape[-1], device=self.device) < sizes[:, 1, None, None, None]
        inside = rows & columns
        if self.pad == "before":
            values = torch.where(inside, values, self.pad_value)
        values = (values - self.mean) / self.std
        return torch.where(inside, values, self.pad_value) if self.pad == "after" else values

    def _move(self, targets: Targets) -> Targets:
        masks = None if targets.masks is None else [self._move_mask(mask) for mask in targets.masks]
        rest = {name: self._to(getattr(targets, name)) for name in ("boxes", "labels", "valid", "crowd")}
        return attrs.evolve(targets, masks=masks, **rest)

    def _move_mask(self, mask: Tensor | Polygons) -> Tensor | Polygons:
        if isinstance(mask, Polygons):
            return Polygons(self._to(mask.points), self._to(mask.offsets), self._to(mask.owner))
        return self._to(mask)

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


def to_original(detections: Sequence[Detections], batch: Batch) -> list[Detections]:
    """Detections in input pixels -> in pixels of the original images, clipped to them.

    Right for transforms that resize and pad at the bottom and right only; those of evaluation do no more.
    """
    factors = batch.scale.repeat(1, 2)
    originals = (batch.sizes * batch.scale.flip(-1)).round()
    return [
        attrs.evolve(found, boxes=clip_boxes(found.boxes * factor, size))
        for found, factor, size in zip(detections, factors, originals, strict=True)
    ]
