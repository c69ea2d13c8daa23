"""The data of a config, read once and told: which flaws there are, how many, and where the first of them are."""

from __future__ import annotations

import inspect
import json as json_
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from detcore.assemble import Strings, load
from detcore.catalog import Catalog
from detcore.errors import ConfigError, UserError
from detcore.files import write_text
from detcore.report import Flaw
from detcore.scripts import split_of

from detcore_check_data.look import Look
from detcore_check_data.plots import draw
from detcore_check_data.samples import Objects, objects, places, read

SPLITS = ("train", "val")
TOLERANT = {"invalid": '"skip"', "keep_empty": "true"}
"""Arguments that make a dataset note flaws instead of raising them, and keep images without objects."""
FIRST = 3
"""How many places of a finding the console shows."""


@attrs.frozen(eq=False)
class Split:
    """What was found in the data of ``[train]`` or ``[val]``.

    Attributes:
        name: Which.
        classes: By label.
        looks: Of all its samples.
        objects: What becomes of its objects.
        flaws: All of them.
    """

    name: str
    classes: Sequence[str]
    looks: Sequence[Look]
    objects: Objects
    flaws: Sequence[Flaw]

    @property
    def findings(self) -> dict[tuple[str, str], list[Flaw]]:
        """Flaws by kind and action, what loses or distorts data first, then the most."""
        found: dict[tuple[str, str], list[Flaw]] = {}
        for flaw in self.flaws:
            found.setdefault((flaw.kind, flaw.action), []).append(flaw)
        return dict(sorted(found.items(), key=lambda item: (item[0][1] == "kept", -len(item[1]), item[0])))


def run(
    source: str,
    *,
    workers: int | None = None,
    json: Path | None = None,
    plots: Path | None = None,
    sets: Strings = (),
    swaps: Strings = (),
) -> tuple[str, bool]:
    """Look at all data of a config; returns what the console shows, and whether anything loses or distorts data.

    Args:
        source: A config.
        workers: Processes that read; None: as many as the config says of each split.
        json: A file for everything that was found.
        plots: A folder for pictures of sizes, classes and objects.
        sets: As in :func:`detcore.run.train`.
        swaps: As in :func:`detcore.run.train`.

    Raises:
        UserError: Of the config; the data cannot be read at all.
    """
    splits = check(source, workers=workers, sets=sets, swaps=swaps)
    if json is not None:
        write_text(json, json_.dumps(told(source, splits), indent=1) + "\n")
    if plots is not None:
        for split in splits:
            draw(split.name, split.classes, split.looks, plots)
    return table(splits), any(flaw.action != "kept" for split in splits for flaw in split.flaws)


def check(source: str, *, workers: int | None = None, sets: Strings = (), swaps: Strings = ()) -> list[Split]:
    """The splits that a config has, with their flaws. Arguments as in :func:`run`."""
    config, catalog = load(source, sets, swaps)
    names = [name for name in SPLITS if name in config.table]
    if not names:
        raise ConfigError(config.table.where(), "says nothing of train and val", "There is no data to check.")
    sections: Mapping[str, Any] = {name: config.table[name] for name in names}
    tolerant = [*sets, *tolerances([section.get("dataset") for section in sections.values()], catalog)]
    config, catalog = load(source, tolerant, swaps)
    splits = []
    for name, section in sections.items():
        own = section.get("workers", 0) if workers is None else workers
        splits.append(_split(name, split_of(config, catalog, name).dataset, own))
    return _with_twins(splits)


def tolerances(tables: Iterable[Any], catalog: Catalog) -> list[str]:
    """``train.dataset.invalid="skip"`` and the like for each dataset in these tables that takes it."""
    found = []
    for table in tables:
        for dataset in _datasets(table):
            with suppress(UserError):  # the config is checked when its datasets are built
                target = catalog.find("dataset", dataset["type"], dataset.where("type")).obj
                takes = inspect.signature(target).parameters
                found += [f"{dataset.home}.{name}={value}" for name, value in TOLERANT.items() if name in takes]
    return [*dict.fromkeys(found)]


def _datasets(value: Any) -> Iterator[Any]:
    """The tables that name a type, in a table and all that it holds."""
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str):
            yield value
        for each in value.values():
            yield from _datasets(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _datasets(each)


def _split(name: str, dataset: Any, workers: int) -> Split:
    flaws = [*getattr(dataset, "report", ())]  # before samples are read, which may add to it
    samples = places(dataset)
    looks = read(samples, workers)
    flaws += [flaw for each in looks for flaw in each.flaws]
    ids = Counter(id_ for each in looks for id_ in each.annotation_ids)
    flaws += [
        Flaw(f"annotation {id_}", f"{count} annotations have this id", "kept", "annotation id used twice")
        for id_, count in ids.items()
        if count > 1
    ]
    return Split(name, dataset.classes, looks, objects(samples, looks), flaws)


def _with_twins(splits: Sequence[Split]) -> list[Split]:
    """The same, with images whose files have the content of one before them."""
    seen: dict[str, tuple[str, str]] = {}
    found = []
    for split in splits:
        twins = []
        for each in split.looks:
            if not each.digest:
                continue
            name, where = seen.setdefault(each.digest, (split.name, each.where))
            if name != split.name:
                what = f"its file has the content of {name}'s {where}"
                twins.append(Flaw(each.where, what, "in both", "same image in two splits"))
            elif where != each.where:
                twins.append(Flaw(each.where, f"its file has the content of {where}", "kept", "same image twice"))
        found.append(attrs.evolve(split, flaws=[*split.flaws, *twins]))
    return found


def told(source: str, splits: Sequence[Split]) -> dict[str, Any]:
    """Everything, as JSON has it."""
    return {
        "config": source,
        "splits": {
            split.name: {
                "images": len(split.looks),
                "objects": dict(split.objects),
                "classes": _per_class(split),
                "findings": [
                    {
                        "kind": kind,
                        "action": action,
                        "count": len(flaws),
                        "entries": [{"where": flaw.where, "what": flaw.what} for flaw in flaws],
                    }
                    for (kind, action), flaws in split.findings.items()
                ],
            }
            for split in splits
        },
    }


def _per_class(split: Split) -> dict[str, int]:
    counts = Counter(label for each in split.looks for label in each.labels.tolist())
    return {name: counts[label] for label, name in enumerate(split.classes)}


def table(splits: Sequence[Split]) -> str:
    """What the console shows."""
    lines = [_summary(split) for split in splits]
    rows = [
        (split.name, kind, action, str(len(flaws)), _first(flaws))
        for split in splits
        for (kind, action), flaws in split.findings.items()
    ]
    if not rows:
        return "\n".join([*lines, "nothing found"])
    every = [("split", "finding", "what is done", "count", "first"), *rows]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    lines += ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in every]
    flaws = [flaw for split in splits for flaw in split.flaws]
    harm = sum(flaw.action != "kept" for flaw in flaws)
    return "\n".join([*lines, f"flaws that lose or distort data: {harm}; that are only odd: {len(flaws) - harm}"])


def _summary(split: Split) -> str:
    """``train: 100 images; 90 objects used of 93 annotated: 3 flawed``"""
    counts = split.objects
    lost = [f"{count} {name}" for name, count in counts.items() if count and name not in ("annotated", "used")]
    of = f" of {counts['annotated']} annotated" if "annotated" in counts else ""
    used = f"{split.name}: {len(split.looks)} images; {counts['used']} objects used{of}"
    return f"{used}: {', '.join(lost)}" if lost else used


def _first(flaws: Sequence[Flaw]) -> str:
    names = [_short(flaw.where) for flaw in flaws[:FIRST]]
    return "; ".join([*names, "..."] if len(flaws) > FIRST else names)


def _short(where: str) -> str:
    """Without the folders of the file that it starts with."""
    file, colon, rest = where.partition(": ")
    return f"{os.path.basename(file)}{colon}{rest}" if os.path.exists(file) else where
