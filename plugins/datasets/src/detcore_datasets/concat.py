"""Several datasets as one, and their metrics one by one."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from detcore.errors import ConfigError, DataError
from detcore.interfaces import Dataset, Evaluator, Factory
from detcore.results import image_ids, targets
from detcore.structures import Detections


class ConcatDataset:
    """Several datasets of the same classes, one after the other. An image is called ``"<dataset>/<its id there>"``.

    Args:
        datasets: By name.

    Attributes:
        classes: Names by label, those of all of them.
        parts: The datasets by name.
        report: The flaws that all of them noted: one list, which they share.

    Raises:
        DataError: Their classes differ; the message says which labels mean what where.
    """

    def __init__(self, *, datasets: Mapping[str, Dataset]) -> None:
        if not datasets:
            raise ConfigError("ConcatDataset: datasets", "there are none", "Name at least one.")
        if any("/" in name for name in datasets):
            raise ConfigError("ConcatDataset: datasets", "a name has a slash", "It stands between name and id.")
        self.parts = dict(datasets)
        self.classes: Sequence[str] = agreed(self.parts)
        self.report: list[Any] = []
        for part in self.parts.values():
            self.report += getattr(part, "report", [])
            if hasattr(part, "report"):
                part.report = self.report
        self._names = [*self.parts]
        self._ends = [*accumulate(len(part) for part in self.parts.values())]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        name, row = self._place(index)
        image, target = self.parts[name][row]
        return image, {**target, "image_id": f"{name}/{target.get('image_id', row)}"}

    @property
    def image_ids(self) -> list[str]:
        """What all images are called, by index."""
        return [f"{name}/{each}" for name, part in self.parts.items() for each in image_ids(part)]

    @property
    def annotated_classes(self) -> dict[str, int]:
        """Names of the classes that objects have in any of the datasets, as far as these tell; see detcore-records."""
        every = [getattr(part, "annotated_classes", {}) for part in self.parts.values()]
        return {name: number for each in every for name, number in each.items()}

    def annotations(self, index: int) -> dict[str, Any]:
        """The target of an image; its image is not read where its dataset can do without."""
        name, row = self._place(index)
        part = self.parts[name]
        own = getattr(part, "annotations", None)
        target = own(row) if callable(own) else part[row][1]
        return {**target, "image_id": f"{name}/{target.get('image_id', row)}"}

    def _place(self, index: int) -> tuple[str, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        part = bisect(self._ends, index)
        return self._names[part], index - (self._ends[part - 1] if part else 0)


def agreed(parts: Mapping[str, Dataset]) -> Sequence[str]:
    """The classes that all have. Raises DataError with a row per label of which they differ."""
    most = max(len(part.classes) for part in parts.values())
    differ = []
    for label in range(most):
        names = {name: part.classes[label] if label < len(part.classes) else "-" for name, part in parts.items()}
        if len(set(names.values())) > 1:
            differ.append(f"{label} is " + ", ".join(f"{each} ({name})" for name, each in names.items()))
    if differ:
        fix = 'Name the classes at the top of the config: classes = ["...", ...].'
        raise DataError("ConcatDataset: datasets", f"labels mean different classes: {'; '.join(differ)}", fix)
    return tuple(next(iter(parts.values())).classes)


class PerDatasetEvaluator(Evaluator):
    """The metrics of each part of a ``ConcatDataset``, ``<name>/<metric>``; first the mean of their main ones.

    Args:
        dataset: A ``ConcatDataset``.
        evaluator: Scores each part.
    """

    def __init__(self, dataset: Dataset, *, evaluator: Factory[Evaluator]) -> None:
        if not isinstance(dataset, ConcatDataset):
            found = f"the dataset is a {type(dataset).__name__}"
            raise ConfigError("PerDatasetEvaluator", found, "It is for a ConcatDataset.")
        self.parts = {name: evaluator(part) for name, part in dataset.parts.items()}
        self.ids = {
            f"{name}/{own}": own
            for name, part in dataset.parts.items()
            for own in (target.get("image_id", row) for row, target in enumerate(targets(part)))
        }

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        """Each image's to the evaluator of its dataset."""
        for found, id_ in zip(detections, ids, strict=True):
            if id_ not in self.ids:
                raise DataError("PerDatasetEvaluator", f"the dataset has no image {id_!r}")
            self.parts[str(id_).partition("/")[0]].update([found], [self.ids[str(id_)]])

    def compute(self) -> dict[str, float]:
        """See the class."""
        metrics = {name: part.compute() for name, part in self.parts.items()}
        main = next(iter(next(iter(metrics.values()))))
        every = {f"{name}/{key}": value for name, own in metrics.items() for key, value in own.items()}
        return {f"mean_{main}": sum(own[main] for own in metrics.values()) / len(metrics), **every}

    def results(self) -> list[dict[str, Any]] | None:
        """The rows of all parts, with the names that images have here; None where a part makes none."""
        rows = {name: part.results() for name, part in self.parts.items()}
        if any(each is None for each in rows.values()):
            return None
        return [{**row, "image_id": f"{name}/{row['image_id']}"} for name, own in rows.items() for row in own or ()]
