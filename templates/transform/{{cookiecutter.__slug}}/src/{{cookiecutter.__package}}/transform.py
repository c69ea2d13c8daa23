"""A transform as torchvision has them: one method draws what is random, one changes each part of a sample."""

from __future__ import annotations

from typing import Any

import torch
from detcore.errors import ConfigError
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform


class {{ cookiecutter.__class }}(Transform):  # type: ignore[misc]  # torchvision is not typed
    """Mirrors a sample at its diagonal: x and y change places, and so do width and height.

    Image, masks, boxes and outlines move together, and no object is lost, so that rows stay as they are. Randomness
    comes from torch's generator, which is seeded for each sample: it depends on nothing else.

    Args:
        p: Probability.

    Raises:
        ConfigError: It is no probability.
    """

    def __init__(self, *, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ConfigError("p", f"{p} is no probability", "It is from 0 to 1.")
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Whether it is done: once for all parts of a sample."""
        return {"mirror": float(torch.rand(())) < self.p}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """One part of a sample: its image, its boxes, ...; what is not of these never gets here."""
        if not params["mirror"]:
            return inpt
        if isinstance(inpt, tv_tensors.BoundingBoxes | tv_tensors.KeyPoints):
            order = [1, 0, 3, 2] if isinstance(inpt, tv_tensors.BoundingBoxes) else [1, 0]
            moved = inpt.as_subclass(Tensor)[..., order]
            return tv_tensors.wrap(moved, like=inpt, canvas_size=inpt.canvas_size[::-1])
        mirrored = inpt.as_subclass(Tensor).transpose(-1, -2).contiguous()
        return tv_tensors.wrap(mirrored, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else mirrored
