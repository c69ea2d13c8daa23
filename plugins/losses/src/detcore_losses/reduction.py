"""From the loss of each element to a scalar, as every loss does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs
import torch
from detcore.errors import ConfigError
from torch import Tensor

ReductionKind = Literal["mean", "sum", "none"]
EPS = torch.finfo(torch.float32).eps


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """``value``; a ConfigError where it is not among ``known``."""
    if value not in known:
        raise ConfigError(name, f'"{value}" is not known', f"It is one of: {', '.join(known)}.")
    return value


def _known(_: object, __: object, value: str) -> None:
    one_of("reduction", value, ("mean", "sum", "none"))


@attrs.frozen
class Reduction:
    """How the losses of elements become the loss of a batch.

    Attributes:
        kind: ``mean``, ``sum``, or ``none`` (no reduction).
        factor: Multiplies the result.
    """

    kind: ReductionKind = attrs.field(validator=_known)
    factor: float

    def __call__(
        self, values: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """The weighted values, reduced.

        Args:
            values: (N, ...) losses.
            weight: The shape of the values, or its leading dimensions.
            avg_factor: What a mean divides the sum by; None: the number of values. ``none`` does not look at it.

        Raises:
            ConfigError: With an ``avg_factor`` for a sum.
        """
        if weight is not None:
            values = values * weight.reshape(weight.shape + (1,) * (values.dim() - weight.dim()))
        if self.kind == "sum" and avg_factor is not None:
            raise ConfigError(
                "reduction", '"sum" in a place that divides the loss by its own normaliser', 'Use "mean" or "none".'
            )
        if self.kind == "none":
            return self.factor * values
        total = self.factor * values.sum()
        if self.kind == "sum":
            return total
        return total / max(values.numel(), 1) if avg_factor is None else total / (avg_factor + EPS)


def full_precision(x: Tensor) -> Tensor:
    """``x`` in float32 at least: half precision is too coarse for pixels and logarithms."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
