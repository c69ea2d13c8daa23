"""Pictures of a split's data: sizes, aspect ratios, classes, objects of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from detcore.files import replacing

from detcore_check_data.look import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = ("sizes", "aspect_ratios", "objects_per_class", "objects_per_image")
"""Each is ``<split>_<panel>.png``."""
OCTAVES = 5
"""Longer and flatter things than 1 : 2^5 are drawn at the end of the aspect ratios."""


def draw(split: str, classes: Sequence[str], looks: Sequence[Look], folder: Path) -> list[Path]:
    """One PNG per panel, each written at once or not at all."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    functions = (_sizes, _aspect_ratios, lambda axes, each: _per_class(axes, each, classes), _per_image)
    paths = []
    for name, function in zip(PANELS, functions, strict=True):
        tall = max(5.0, 0.2 * len(classes)) if name == "objects_per_class" else 5.0
        figure = Figure(figsize=(8, tall), layout="constrained")
        axes = figure.subplots()
        function(axes, looks)
        axes.set_title(f"{split}: {name.replace('_', ' ')}", loc="left")
        path = folder / f"{split}_{name}.png"
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=100)
        paths.append(path)
    return paths


def _sizes(axes: Axes, looks: Sequence[Look]) -> None:
    counts = Counter(each.size for each in looks)
    sizes = np.array([*counts]).reshape(-1, 2)
    axes.scatter(sizes[:, 0], sizes[:, 1], s=[20 * np.sqrt(count) for count in counts.values()], alpha=0.5)
    axes.set_xlabel("width")
    axes.set_ylabel("height")


def _aspect_ratios(axes: Axes, looks: Sequence[Look]) -> None:
    """Of images and of boxes; flat boxes have none."""
    images = np.array([each.size for each in looks], np.float64).reshape(-1, 2)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in looks)])
    for name, sides in (("images", images), ("boxes", boxes[:, 2:] - boxes[:, :2])):
        known = sides[(sides > 0).all(1)]
        ratios = np.log2(known[:, 0] / known[:, 1]).clip(-OCTAVES, OCTAVES)
        bins = [octave / 8 for octave in range(-8 * OCTAVES, 8 * OCTAVES + 1)]
        axes.hist(ratios, bins=bins, weights=np.full(len(ratios), 1 / max(len(ratios), 1)), alpha=0.5, label=name)
    axes.set_xlabel("log2(width / height)")
    axes.set_ylabel("share")
    axes.legend(frameon=False)


def _per_class(axes: Axes, looks: Sequence[Look], classes: Sequence[str]) -> None:
    counts = Counter(label for each in looks for label in each.labels.tolist())
    axes.barh([*range(len(classes))], [counts[label] for label in range(len(classes))])
    axes.set_yticks([*range(len(classes))], classes, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("objects")


def _per_image(axes: Axes, looks: Sequence[Look]) -> None:
    counts = [len(each.labels) for each in looks]
    most = max(counts, default=0)
    axes.hist(counts, bins=[*range(0, most + 2, most // 60 + 1), most + 1])
    axes.set_xlabel("objects of an image")
    axes.set_ylabel("images")
