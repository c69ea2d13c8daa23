"""Colours of classes and curves."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

FIRST = "d55e00 56b4e9 009e73 e69f00 0072b2 cc79a7 f0e442"
"""Told apart by the colour-blind too: Okabe and Ito, "Color Universal Design" (2008)."""


def color(label: int) -> Color:
    """The colour of a class, the same in every picture; from the 129th on they come again."""
    red, green, blue = _palette()[label % 128]
    return red, green, blue


@functools.cache
def _palette() -> Sequence[Sequence[int]]:
    """The first, then always the colour farthest from all before, as the eye sees it, of those that stand out."""
    grid = np.stack(np.meshgrid(*3 * [np.arange(0, 256, 17)]), -1).reshape(-1, 3)
    seen = _oklab(grid)
    vivid = (seen[:, 0] > 0.42) & (seen[:, 0] < 0.9) & (np.hypot(seen[:, 1], seen[:, 2]) > 0.08)
    grid, seen = grid[vivid], seen[vivid]
    colors = [[*bytes.fromhex(each)] for each in FIRST.split()]
    distance = np.linalg.norm(seen[:, None] - _oklab(np.array(colors)), axis=-1).min(1)
    while len(colors) < 128:
        farthest = distance.argmax()
        colors.append(grid[farthest].tolist())
        distance = np.minimum(distance, np.linalg.norm(seen - seen[farthest], axis=-1))
    return colors


def _oklab(rgb: Any) -> Any:
    """(N, 3) of 0 to 255 -> (N, 3) in which distances are those that are seen (Ottosson, "Oklab", 2020)."""
    linear = np.where(rgb > 10, ((rgb / 255 + 0.055) / 1.055) ** 2.4, rgb / 255 / 12.92)
    cones = np.cbrt(linear @ [[0.4122, 0.2119, 0.0883], [0.5363, 0.6807, 0.2817], [0.0514, 0.1074, 0.6300]])
    return cones @ [[0.2105, 1.9780, 0.0259], [0.7936, -2.4286, 0.7828], [-0.0041, 0.4506, -0.8087]]
