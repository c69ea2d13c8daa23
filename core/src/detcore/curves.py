"""The curves of a run, drawn from its log."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from detcore.colors import color
from detcore.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = dict[int, dict[str, Any]]
"""Lines of a log by their step."""
Series = dict[str, tuple[Any, Any]]
"""By name (N,) steps and (N,) float64, NaN where there is no number."""

MAIN = re.compile(r"m?AP(50|75)?$")
"""The metrics that are drawn, beside the first."""
ENTRIES = 40
"""Of a legend, in one column."""


@attrs.frozen(eq=False)
class History:
    """What a log says that still holds: of a step that a resumed run made again, what it said last.

    Attributes:
        train: Reports.
        validation: Metrics.
        steps_per_epoch: As the run said when it started; None if it did not.
    """

    train: Rows
    validation: Rows
    steps_per_epoch: float | None


def curves(log: Path, path: Path) -> None:
    """Losses, learning rate and the main metrics over the steps of a run, as a PNG, written at once or not at all.

    Args:
        log: The run's ``log.jsonl``.
        path: The picture.

    Raises:
        OSError: The log cannot be read, or the picture not be written.
    """
    figure = curves_figure(read_history(log))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def read_history(log: Path) -> History:
    """The lines of a log; one that was cut off when the run was killed is left out.

    Raises:
        OSError: It cannot be read.
    """
    train: Rows = {}
    validation: Rows = {}
    steps_per_epoch = None
    for line in log.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
            kind, step = row["kind"], row["step"]
        except (ValueError, TypeError, LookupError):
            continue
        if kind == "started":
            steps_per_epoch = row.get("steps_per_epoch")
            for rows in (train, validation):  # what came after the checkpoint that is resumed from happens again
                for later in [each for each in rows if each > step]:
                    del rows[later]
        elif kind in ("train", "validation"):
            (train if kind == "train" else validation)[step] = row
    return History(dict(sorted(train.items())), dict(sorted(validation.items())), steps_per_epoch or None)


def curves_figure(history: History) -> Figure:
    """One panel each for the loss, its terms, the learning rate and the metrics, as far as there are numbers."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import

    panels = _panels(history)
    heights = [max(2.6, 0.2 * min(len(series), ENTRIES) + 0.8) for series in panels.values()]
    figure = Figure(figsize=(13, sum(heights) + 0.6), layout="constrained")
    grid = figure.subplots(len(panels), squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (title, series) in zip(grid, panels.items(), strict=True):
        _plot(axes, title, series)
    grid[-1].set_xlabel("step")
    if history.steps_per_epoch is not None:
        per_epoch = history.steps_per_epoch
        functions = (lambda step: step / per_epoch, lambda epoch: epoch * per_epoch)
        grid[0].secondary_xaxis("top", functions=functions).set_xlabel("epoch")
    return figure


def smoothed(values: Any) -> Any:
    """The mean of each value's neighbours, a twenty-fifth of all, without the NaN among them; (N,) -> (N,)."""
    kernel = np.ones(len(values) // 50 * 2 + 1)
    known = np.isfinite(values)
    total, count = np.convolve(np.where(known, values, 0.0), kernel, "same"), np.convolve(known, kernel, "same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _panels(history: History) -> dict[str, Series]:
    """What is drawn, by title."""
    reports, validations = _series(history.train), _series(history.validation)
    known = {**validations, **reports}
    terms = [name for name in reports if "loss" in name and name != "loss"]
    metrics = [name for name in validations if "loss" not in name]
    groups: dict[str, list[str]] = {
        "loss": [name for name in ("loss", "val_loss") if name in known],
        "terms of the loss": terms if len(terms) > 1 else [],
        "learning rate": [name for name in reports if name.startswith("lr")],
        "validation": [name for name in metrics if name == metrics[0] or MAIN.search(name)],
    }
    panels = {title: {name: known[name] for name in names} for title, names in groups.items() if names}
    return panels or {"no numbers yet": {}}


def _series(rows: Rows) -> Series:
    """A number for every row; names that never have one are left out."""
    names = dict.fromkeys(name for row in rows.values() for name in row if name not in ("kind", "epoch", "step"))
    table = {name: np.array([_number(row.get(name)) for row in rows.values()]) for name in names}
    return {name: (np.array([*rows]), values) for name, values in table.items() if np.isfinite(values).any()}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _plot(axes: Axes, title: str, series: Series) -> None:
    noisy = "loss" in title
    for number, (name, (steps, values)) in enumerate(series.items()):
        tone = [0.85 * part / 255 for part in color(number)]  # a little darker: they are on white
        line = smoothed(values) if noisy else values
        if noisy and len(values) >= 50:
            axes.plot(steps, values, color=tone, alpha=0.25, linewidth=0.8)
        known = line[np.isfinite(line)]
        marker = "o" if len(known) < 25 else None
        axes.plot(steps, line, color=tone, marker=marker, markersize=4, label=f"{name}  {known[-1]:.4g}")
        if noisy and 0 < 30 * np.nanmin(values) < np.nanmax(values):
            axes.set_yscale("log")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.3)
    if series:
        columns = -(-len(series) // ENTRIES)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False, ncols=columns)
