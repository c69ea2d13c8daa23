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
    from matplotlib.axis import Axis

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
    """Of images, in one scale from 0 on; the more there are of a size, the larger its dot."""
    counts = Counter(each.size for each in looks)
    sizes = np.array([*counts]).reshape(-1, 2)
    axes.scatter(sizes[:, 0], sizes[:, 1], s=[20 * np.sqrt(count) for count in counts.values()], alpha=0.5)
    for (width, height), count in counts.most_common(1):
        axes.text(0.03, 0.03, f"most often {width} x {height}: {count}", transform=axes.transAxes)
    most = 1.05 * max(1, sizes.max(initial=1))
    axes.set(xlim=(0, most), ylim=(0, most), aspect="equal", xlabel="width", ylabel="height")


def _aspect_ratios(axes: Axes, looks: Sequence[Look]) -> None:
    """Of images and of boxes; flat boxes have none."""
    images = np.array([each.size for each in looks], np.float64).reshape(-1, 2)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in looks)])
    for name, sides in (("images", images), ("boxes", boxes[:, 2:] - boxes[:, :2])):
        known = sides[(sides > 0).all(1)]
        ratios = np.log2(known[:, 0] / known[:, 1]).clip(-OCTAVES, OCTAVES)
        bins = [octave / 8 for octave in range(-8 * OCTAVES, 8 * OCTAVES + 1)]
        axes.hist(ratios, bins=bins, weights=np.full(len(ratios), 1 / max(len(ratios), 1)), alpha=0.5, label=name)
    octaves = range(-OCTAVES, OCTAVES + 1)
    axes.set_xticks([*octaves], [f"{2 ** max(each, 0)} : {2 ** max(-each, 0)}" for each in octaves])
    axes.set(xlabel="width : height", ylabel="share")
    axes.margins(x=0.01)
    axes.legend(frameon=False)


def _per_class(axes: Axes, looks: Sequence[Look], classes: Sequence[str]) -> None:
    counts = Counter(label for each in looks for label in each.labels.tolist())
    bars = axes.barh([*range(len(classes))], [counts[label] for label in range(len(classes))])
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.set_yticks([*range(len(classes))], classes, fontsize=8)
    axes.set(xlabel="objects", ylim=(len(classes) - 0.4, -0.6))
    axes.margins(x=0.1)
    _count(axes.xaxis)


def _per_image(axes: Axes, looks: Sequence[Look]) -> None:
    """A bar for each number of objects, or for some of them where there are very many."""
    counts = [len(each.labels) for each in looks]
    step = max(counts, default=0) // 60 + 1
    axes.hist(counts, bins=[each - 0.5 for each in range(0, max(counts, default=0) + step + 1, step)])
    axes.set(xlabel="objects of an image", ylabel="images")
    for axis in (axes.xaxis, axes.yaxis):
        _count(axis)
    axes.margins(x=0.01)


def _count(axis: Axis) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 (slow to import)

    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
