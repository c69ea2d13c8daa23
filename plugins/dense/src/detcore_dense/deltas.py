"""Boxes relative to boxes: shift of the centre and logarithm of the size (Girshick et al. 2014, R-CNN, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from detcore.errors import ConfigError
from detcore.interfaces import BoxCoder
from torch import Tensor

from detcore_dense.boxes import full_precision

SMALLEST = 1e-6
"""Pixels: boxes without width or height are taken to have this much, so that no delta is infinite."""


def delta_encode(boxes: Tensor, targets: Tensor) -> Tensor:
    """(..., 4) boxes, (..., 4) targets xyxy -> (..., 4) deltas dx, dy (in widths and heights), log dw, log dh."""
    centre, size = _centre_and_size(full_precision(boxes))
    target_centre, target_size = _centre_and_size(full_precision(targets))
    size = size.clamp(min=SMALLEST)
    return torch.cat([(target_centre - centre) / size, (target_size.clamp(min=SMALLEST) / size).log()], -1)


def delta_decode(
    boxes: Tensor, deltas: Tensor, wh_ratio_clip: float = 16 / 1000, ctr_clamp: float | None = None
) -> Tensor:
    """The inverse of :func:`delta_encode`; boxes and deltas broadcast.

    Args:
        boxes: (..., 4) xyxy.
        deltas: (..., 4).
        wh_ratio_clip: Sizes change by at most its inverse (62.5), and by at least itself.
        ctr_clamp: Centres move by at most so many pixels, and sizes may then shrink without bound (Chen et
            al. 2021, YOLOF).
    """
    centre, size = _centre_and_size(full_precision(boxes))
    deltas = full_precision(deltas)
    shift, log_size = deltas[..., :2] * size, deltas[..., 2:]
    most = -math.log(wh_ratio_clip)
    if ctr_clamp is None:
        log_size = log_size.clamp(-most, most)
    else:
        shift, log_size = shift.clamp(-ctr_clamp, ctr_clamp), log_size.clamp(max=most)
    centre, half = centre + shift, size * log_size.exp() / 2
    return torch.cat([centre - half, centre + half], -1)


class DeltaXYWHCoder(BoxCoder):
    """Deltas, normalised.

    Args:
        means: Subtracted from the deltas dx, dy, log dw, log dh.
        stds: Divide them then.
        wh_ratio_clip: Decoded sizes change by at most its inverse.
        ctr_clamp: Decoded centres move by at most so many pixels; None is no limit.

    Raises:
        ConfigError: Means or stds are not four, a std is not positive, or the clip is not between 0 and 1.
    """

    means: Tensor
    stds: Tensor

    def __init__(
        self,
        *,
        means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        wh_ratio_clip: float = 16 / 1000,
        ctr_clamp: float | None = None,
    ) -> None:
        super().__init__()
        for name, values in (("means", means), ("stds", stds)):
            if len(values) != 4:
                raise ConfigError(name, f"{len(values)} numbers", "Give four: of dx, dy, log dw and log dh.")
        if min(stds) <= 0:
            raise ConfigError("stds", f"{min(stds)} divides deltas", "Give positive numbers.")
        if not 0 < wh_ratio_clip <= 1:
            raise ConfigError("wh_ratio_clip", f"{wh_ratio_clip} as the least change of a size", "Give one in (0, 1].")
        self.register_buffer("means", torch.tensor(means, dtype=torch.float32), persistent=False)
        self.register_buffer("stds", torch.tensor(stds, dtype=torch.float32), persistent=False)
        self.wh_ratio_clip = wh_ratio_clip
        self.ctr_clamp = ctr_clamp

    def encode(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """(..., 4) boxes, (..., 4) targets -> (..., 4) normalised deltas."""
        return (delta_encode(boxes, targets) - self.means) / self.stds

    def decode(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        """(..., 4) boxes, (..., 4) normalised deltas -> (..., 4) boxes, not clipped."""
        deltas = full_precision(deltas) * self.stds + self.means
        return delta_decode(boxes, deltas, self.wh_ratio_clip, self.ctr_clamp)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
