"""What holds for the losses of every head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from detcore.structures import Losses, total_loss
from detcore.testing.compare import ConformanceError
from detcore.testing.modules import ABSENT, check_gradients

Terms = tuple[Sequence[str], Sequence[str]]
"""Names of losses, and numbers of the maps that gradients reach."""


def check_terms(head: Any, losses: Losses, when: str) -> None:
    """Named, finite scalars; the sum of those that are trained on reaches all parameters."""
    name = type(head).__name__
    for term, value in losses.items():
        if not isinstance(value, Tensor) or value.dim() != 0:
            found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ConformanceError(name, f"{term} is {found} {when}", "Losses are tensors of no dimension.")
        if not value.isfinite():
            raise ConformanceError(name, f"{term} is {value.item()} {when}", ABSENT)
    if not any("loss" in term for term in losses):
        raise ConformanceError(name, f"no name of {[*losses]} contains `loss`", "What is trained on does, alone.")
    check_gradients(head, total_loss(losses), when)


def check_same_terms(name: str, found: Terms, first: Terms, what: str, than: str = "one object in each image") -> None:
    """Whatever is in the images, losses have the same names and gradients reach the same maps."""
    for subject, now, before in zip(("the losses are", "gradients reach maps"), found, first, strict=True):
        if now != before:
            change = f"{subject} {', '.join(now) or 'none'} with {what}, but {', '.join(before)} with {than}"
            raise ConformanceError(name, change, ABSENT)
