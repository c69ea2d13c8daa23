"""Wing loss (Feng et al. 2018, Wing Loss for Robust Facial Landmark Localisation, section 4.2)."""

from __future__ import annotations

import math

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Loss
from torch import Tensor


class {{ cookiecutter.__class }}(Loss):
    """A logarithm of small differences, which pull more than those of an L1 loss; the others cost what they are.

    ``w * ln(1 + |x| / e)`` where ``|x| < w``, else ``|x| - c``; the constant c joins the two (equation 5).

    Args:
        width: w, up to where a difference is small.
        curvature: e, how sharp the curve bends.
        loss_weight: Multiplies the loss.

    Raises:
        ConfigError: A width or a curvature that is not positive.
    """

    def __init__(self, *, width: float = 10.0, curvature: float = 2.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        if width <= 0 or curvature <= 0:
            raise ConfigError("width, curvature", f"{width} and {curvature}", "Both are positive.")
        self.width = width
        self.curvature = curvature
        self.loss_weight = loss_weight

    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """(..., K) vectors and (..., K) vectors -> a scalar; see :class:`detcore.interfaces.Loss` for the others."""
        distance = (input.float() - target.float()).abs()
        joint = self.width - self.width * math.log1p(self.width / self.curvature)
        small = self.width * torch.log1p(distance / self.curvature)
        loss = torch.where(distance < self.width, small, distance - joint)
        if weight is not None:
            loss = loss * weight.reshape(weight.shape + (1,) * (loss.dim() - weight.dim()))
        return self.loss_weight * loss.sum() / (max(loss.numel(), 1) if avg_factor is None else avg_factor)
