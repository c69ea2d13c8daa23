"""Data sets made of data sets, and orders, by their names in MMDetection."""

from __future__ import annotations

from typing import Any

from detcore.foreign import Foreign, Part


def repeat(table: Foreign) -> Part | None:
    """RepeatDataset."""
    inner, times = table.part("dataset"), table.keep(times="times")
    return None if inner is None else table.into("RepeatDataset", dataset=inner, **times)


def balanced(table: Foreign) -> Part | None:
    """ClassBalancedDataset."""
    table.only(filter_empty_gt=True)
    inner, threshold = table.part("dataset"), table.keep(oversample_thr="oversample_thr")
    return None if inner is None else table.into("ClassBalancedDataset", dataset=inner, **threshold)


def concat(table: Foreign) -> Any:
    """ConcatDataset; one data set alone is itself. Images are called by the part that they are of."""
    for key in ("separate_eval", "lazy_init", "ignore_keys"):
        table.get(key)
    parts = [each.translated() for each in table.tables("datasets")]
    parts = [part for part in parts if part is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    return table.into("ConcatDataset", datasets={f"part{number}": part for number, part in enumerate(parts, 1)})


def by_aspect(table: Foreign) -> Part:
    """AspectRatioBatchSampler."""
    table.get("drop_last")
    return table.into("AspectRatioOrder")


def by_class(table: Foreign) -> Part:
    """ClassAwareSampler."""
    table.get("seed")
    table.only(num_sample_class=1)
    return table.into("ClassAwareOrder")


TRANSLATIONS = {
    "RepeatDataset": repeat,
    "ClassBalancedDataset": balanced,
    "ConcatDataset": concat,
    "AspectRatioBatchSampler": by_aspect,
    "ClassAwareSampler": by_class,
}
