"""The samples of a dataset, each once, however it is wrapped, and what becomes of its objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import torch
from detcore.errors import DataError
from detcore.interfaces import Dataset
from torch.utils.data import DataLoader

from detcore_check_data.look import Look, look

Objects = Mapping[str, int]
"""How many there are: ``annotated``, and by what becomes of them ``used``, ``flawed``, ``left out``, ``of unread
images``, ``not chosen``, which add up to it. Only ``used`` where a dataset cannot tell."""


@attrs.frozen(eq=False)
class Place:
    """A sample of the dataset that reads it; ``prefix`` stands before its id where several are joined."""

    dataset: Dataset
    index: int
    prefix: str = ""


@attrs.frozen(eq=False)
class Places:
    """Samples as a loader asks for them."""

    places: Sequence[Place]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Look:
        place = self.places[index]
        return look(place.dataset, place.index, place.prefix)


def places(dataset: Dataset) -> list[Place]:
    """The samples of a dataset, each once; wrappers, which have ``dataset`` and ``rows``, or ``parts``, are opened."""
    once = {(id(each.dataset), each.index): each for each in _unwrapped(dataset, "")}
    return [*once.values()]


def _unwrapped(dataset: Dataset, prefix: str) -> list[Place]:
    own = getattr(dataset, "__dict__", {})  # not getattr: a wrapper answers for what it holds
    parts, inner, rows = own.get("parts"), own.get("dataset"), own.get("rows")
    if isinstance(parts, Mapping):
        return [place for name, part in parts.items() for place in _unwrapped(part, f"{prefix}{name}/")]
    if inner is not None and isinstance(rows, Sequence):
        below = _unwrapped(inner, prefix)
        return [below[row] for row in rows]
    return [Place(dataset, index, prefix) for index in range(len(dataset))]


def read(samples: Sequence[Place], workers: int) -> list[Look]:
    """Look at samples with so many processes; 0: in this one.

    Raises:
        DataError: A process died.
    """
    loader: DataLoader[Look] = DataLoader(
        Places(samples),  # type: ignore[arg-type]  # torch asks for its own class, but reads what has these methods
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),  # the global one stays as it is
    )
    try:
        return [*loader]
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError("data loader", "a worker process died", "Use fewer workers if memory ran out.") from error


def objects(samples: Sequence[Place], looks: Iterable[Look]) -> Objects:
    """What becomes of all objects of the datasets that these samples are of."""
    looks = [*looks]
    used = sum(len(each.labels) for each in looks)
    datasets = {id(place.dataset): place.dataset for place in samples}
    counts: list[Objects | None] = [getattr(each, "object_counts", None) for each in datasets.values()]
    told = [each for each in counts if each is not None]
    if len(told) < len(counts):
        return {"used": used}
    chosen = {(id(place.dataset), place.index) for place in samples}
    others = (
        len(each.annotations(index)["labels"])  # type: ignore[attr-defined]  # who counts objects has it
        for key, each in datasets.items()
        for index in range(len(each))
        if (key, index) not in chosen
    )
    return {
        "annotated": sum(each["annotated"] for each in told),
        "used": used,
        "flawed": sum(each["flawed"] for each in told),
        "left out": sum(each["left_out"] for each in told),
        "of unread images": sum(each.unread for each in looks),
        "not chosen": sum(others),
    }
