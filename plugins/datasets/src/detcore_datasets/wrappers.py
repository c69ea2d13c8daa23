"""Datasets that have another one's samples: several times, some of them, or remembered."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from detcore.data import seeded
from detcore.errors import ConfigError
from detcore.interfaces import Dataset
from detcore.results import targets
from torch import Tensor

BY_INDEX = ("annotations", "size", "coco", "path")
"""Methods that datasets may have beside the interface, each of an index."""


class Chosen:
    """Samples of a dataset, each as often as it is named; what else the dataset offers of an image, it offers too.

    Args:
        dataset: Whose samples.
        rows: Indices into it.

    Attributes:
        classes: Those of the dataset.
    """

    def __init__(self, dataset: Dataset, rows: Sequence[int]) -> None:
        self.dataset = dataset
        self.rows = rows
        self.classes: Sequence[str] = dataset.classes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        return self.dataset[self._row(index)]

    def __getattr__(self, name: str) -> Any:
        """What a dataset may have beside the interface; ``image_ids`` are those of the samples."""
        if name.startswith("__") or "dataset" not in vars(self):  # while it is unpickled
            raise AttributeError(name)
        value = getattr(self.dataset, name)
        if name in BY_INDEX:
            return lambda index: value(self._row(index))
        return [value[row] for row in self.rows] if name == "image_ids" else value

    @property
    def report(self) -> Any:
        """The flaws that the dataset noted."""
        return getattr(self.dataset, "report", [])

    @report.setter
    def report(self, flaws: Any) -> None:
        self.dataset.report = flaws  # type: ignore[attr-defined]  # who notes flaws has one

    def _row(self, index: int) -> int:
        if not 0 <= index < len(self.rows):
            raise IndexError(f"image {index} of {len(self.rows)}")
        return self.rows[index]


class RepeatDataset(Chosen):
    """A dataset several times, so that an epoch goes through it as often.

    Args:
        dataset: Any.
        times: How often.
    """

    def __init__(self, *, dataset: Dataset, times: int) -> None:
        if times < 1:
            raise ConfigError("RepeatDataset: times", f"{times}", "It is at least 1.")
        super().__init__(dataset, [*range(len(dataset))] * times)


class SubsetDataset(Chosen):
    """Some images of a dataset, in its order. One of the first three arguments says which.

    Args:
        dataset: Any.
        indices: These, in this order.
        first: So many, from the front.
        fraction: This share of them, at random.
        seed: Of what is random.
    """

    def __init__(
        self,
        *,
        dataset: Dataset,
        indices: Sequence[int] | None = None,
        first: int | None = None,
        fraction: float | None = None,
        seed: int = 0,
    ) -> None:
        given = {"indices": indices, "first": first, "fraction": fraction}
        named = [name for name, value in given.items() if value is not None]
        if len(named) != 1:
            found = f"found {' and '.join(named) or 'none'}"
            raise ConfigError("SubsetDataset", f"takes one of {', '.join(given)}, {found}")
        length = len(dataset)
        if indices is not None:
            wrong = next((index for index in indices if not 0 <= index < length), None)
            if wrong is not None:
                raise ConfigError("SubsetDataset: indices", f"{wrong}", f"The dataset has images 0 to {length - 1}.")
            rows = [*indices]
        elif first is not None:
            if first < 1:
                raise ConfigError("SubsetDataset: first", f"{first}", "It is at least 1.")
            rows = [*range(min(first, length))]
        else:
            rows = _share(length, float(fraction or 0), seed)
        super().__init__(dataset, rows)


def _share(length: int, fraction: float, seed: int) -> list[int]:
    """Rising indices, a random ``fraction`` of them, at least one."""
    if not 0 < fraction <= 1:
        raise ConfigError("SubsetDataset: fraction", f"{fraction:g}", "It is a share above 0, up to 1.")
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    return sorted(order[: max(1, round(length * fraction))].tolist())


class ClassBalancedDataset(Chosen):
    """Images of rare classes several times (Gupta et al. 2019, LVIS, section 5.1).

    A class that a share f of the images has is worth ``sqrt(oversample_thr / f)``, at least 1; an image is there as
    often as its class of most worth says, rounded up.

    Args:
        dataset: Its objects are looked at once; no image is read where it has ``annotations(index)``.
        oversample_thr: Classes that a smaller share of the images has are repeated.
    """

    def __init__(self, *, dataset: Dataset, oversample_thr: float) -> None:
        if not 0 < oversample_thr <= 1:
            found = f"{oversample_thr:g}"
            raise ConfigError("ClassBalancedDataset: oversample_thr", found, "It is a share above 0, up to 1.")
        times = repeats([labels_of(target) for target in targets(dataset)], oversample_thr)
        super().__init__(dataset, [row for row, count in enumerate(times) for _ in range(count)])


def labels_of(target: dict[str, Any]) -> set[int]:
    """The classes of a target, each once."""
    labels = target.get("labels")
    return set(labels.tolist()) if isinstance(labels, Tensor) else set()


def repeats(labels: Sequence[set[int]], threshold: float) -> list[int]:
    """How often each image is there, given its classes; see :class:`ClassBalancedDataset`."""
    counts = Counter(label for each in labels for label in each)
    worth = {label: max(1.0, math.sqrt(threshold * len(labels) / count)) for label, count in counts.items()}
    return [math.ceil(max((worth[label] for label in each), default=1.0) - 1e-9) for each in labels]


class CachedDataset(Chosen):
    """A dataset that remembers the samples it read last, in each process; what comes out is the same.

    It pays where samples are read several times an epoch, as ``Mosaic`` reads them, and many of them fit: of a large
    dataset few are read twice before they are forgotten.

    Args:
        dataset: A sample of which follows from its index (random numbers that it draws are the same each time).
        samples: How many are remembered.
    """

    def __init__(self, *, dataset: Dataset, samples: int = 1000) -> None:
        if samples < 1:
            raise ConfigError("CachedDataset: samples", f"{samples}", "It is at least 1.")
        super().__init__(dataset, range(len(dataset)))
        self.samples = samples
        self._read: OrderedDict[int, tuple[Any, dict[str, Any]]] = OrderedDict()

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        if index not in self._read:
            with seeded(self._row(index)):  # so that no generator knows whether it was read
                self._read[index] = self.dataset[index]
            if len(self._read) > self.samples:
                self._read.popitem(last=False)
        self._read.move_to_end(index)
        image, target = self._read[index]
        return _copied(image), {name: _copied(value) for name, value in target.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_read": OrderedDict()}


def _copied(value: Any) -> Any:
    """The same; a tensor in memory of its own, of the same class."""
    return value.clone() if isinstance(value, Tensor) else value
