"""Labels are numbers, and only names say what they mean: where the parts of a run know other classes, it stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detcore.errors import ConfigError, UserError

ROWS = 20
"""Classes that a table shows at most; where there are more, only those on which the parts differ."""
SUBSET = "Where it is meant that they are left out, write class_subset = true."


def agree(where: str, known: Mapping[str, Any], fix: str, kind: type[UserError] = ConfigError) -> None:
    """Compare the classes of the parts of a run.

    Args:
        where: For messages.
        known: By the part's name its list of names, or something with ``classes`` and perhaps ``category_ids``.
        fix: What would be right.
        kind: Of error.

    Raises:
        UserError: They are not the same in the same order; a table follows the line.
    """
    parts = {name: [*cells(source)] for name, source in known.items()}
    (first, classes), *others = parts.items()
    for name, each in others:
        if each != classes:
            alone = {first: _without(classes, each), name: _without(each, classes)}
            what = "; ".join(f"only {part} has {some(names)}" for part, names in alone.items() if names)
            found = f"{first} and {name} have different classes: {what or 'their order differs'}"
            raise kind(where, found, f"{fix}\n{table(known)}")


def all_used(where: str, classes: Sequence[str], name: str, dataset: Any) -> None:
    """Compare the classes that a config lists with those that objects are annotated with, as far as a dataset tells.

    Args:
        where: For messages.
        classes: Of the config.
        name: Of the dataset.
        dataset: It may have ``annotated_classes``, a mapping from their names to their numbers there.

    Raises:
        ConfigError: Some are left out; a table follows the line.
    """
    annotated: Mapping[str, int] = getattr(dataset, "annotated_classes", {})
    left = _without([*annotated], classes)
    if left:
        there = {**{each: f"id {number}" for each, number in annotated.items()}, **cells(dataset)}
        shown = table({"config": classes, name: there})
        raise ConfigError(where, f"classes leave out what {name} has annotated: {some(left)}", f"{SUBSET}\n{shown}")


def table(known: Mapping[str, Any]) -> str:
    """A line for each class with its label in each part, and its number in files; ``-`` where it is not there."""
    columns = {name: cells(source) for name, source in known.items()}
    names = dict.fromkeys(name for each in columns.values() for name in each)
    rows = [(name, *(each.get(name, "-") for each in columns.values())) for name in names]
    odd = [row for row in rows if len({text.partition(" ")[0] for text in row[1:]}) > 1]
    shown = rows if len(rows) <= ROWS else odd[:ROWS]
    lines = [("class", *columns), *shown]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    more = [f"and {len(rows) - len(shown)} more, on {len(rows) - len(odd)} of {len(rows)} all agree"]
    return "\n".join([*texts, *(more if len(shown) < len(rows) else [])])


def cells(source: Any) -> dict[str, str]:
    """What a table shows of each class that a part knows."""
    if isinstance(source, Mapping):
        return {name: str(each) for name, each in source.items()}
    names, ids = getattr(source, "classes", source), getattr(source, "category_ids", None)
    return {name: str(label) if ids is None else f"{label} (id {ids[label]})" for label, name in enumerate(names)}


def some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join([*names[:5], *(["..."] if len(names) > 5 else [])])


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    return [name for name in names if name not in others]
