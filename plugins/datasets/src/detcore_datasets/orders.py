"""Orders of samples. All are pure functions of seed and epoch, so that a run is resumed exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detcore.data import epoch_order, seeded
from detcore.errors import ConfigError, did_you_mean
from detcore.interfaces import Dataset, Order
from detcore.results import targets

from detcore_datasets.wrappers import labels_of


class AspectRatioOrder(Order):
    """All samples, shuffled, wide images and tall ones in batches of their own, so that less is padded.

    What is left over of both at the end comes in the last batches, mixed.

    Args:
        dataset: Asked for ``size(index)`` where it has it, else for the canvas of its targets' boxes.
        batch_size: Images of a batch, of all ranks together.
    """

    def __init__(self, dataset: Dataset, batch_size: int) -> None:
        self.batch_size = batch_size
        self.wide = [width > height for height, width in sizes(dataset)]

    def __len__(self) -> int:
        return len(self.wide)

    def __call__(self, seed: int, epoch: int) -> Sequence[int]:
        """See the class."""
        order: list[int] = []
        waiting: dict[bool, list[int]] = {False: [], True: []}
        for index in epoch_order(len(self), seed, epoch):
            batch = waiting[self.wide[index]]
            batch.append(index)
            if len(batch) == self.batch_size:
                order += batch
                batch.clear()
        return [*order, *waiting[False], *waiting[True]]


def sizes(dataset: Dataset) -> Iterator[tuple[int, int]]:
    """Height and width of all images."""
    own = getattr(dataset, "size", None)
    if callable(own):
        return (own(index) for index in range(len(dataset)))
    return (target["boxes"].canvas_size for target in targets(dataset))


class _Drawn(Order):
    """Samples drawn with replacement, as many as the dataset has; each by its probability."""

    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.weights)

    def __call__(self, seed: int, epoch: int) -> Sequence[int]:
        """See the class."""
        with seeded(seed, epoch):
            order: list[int] = torch.multinomial(self.weights, len(self), replacement=True).tolist()
        return order


class ClassAwareOrder(_Drawn):
    """A class is drawn, each as probable as any other, then one of its images, until there are as many as in an epoch.

    (Shen et al. 2016, Relay Backpropagation, section 3.2.) Images without objects are not drawn.

    Args:
        dataset: Its objects are looked at once.
        batch_size: Does not matter.
    """

    def __init__(self, dataset: Dataset, batch_size: int) -> None:
        labels = [labels_of(target) for target in targets(dataset)]
        counts = torch.zeros(len(dataset.classes), dtype=torch.float64)
        for label in (label for each in labels for label in each):
            counts[label] += 1
        if not counts.any():
            raise ConfigError("ClassAwareOrder", "no image has an object: no class can be drawn")
        self.weights = torch.tensor([sum(1 / float(counts[label]) for label in each) for each in labels]).double()


class WeightedOrder(_Drawn):
    """Images drawn with replacement, in proportion to the largest weight of their classes.

    Args:
        dataset: Its objects are looked at once.
        batch_size: Does not matter.
        weights: By name of a class.
        default: The weight of classes that are not named, and of images without objects.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, *, weights: Mapping[str, float], default: float = 1.0
    ) -> None:
        for name, weight in {**weights, "the default": default}.items():
            if weight < 0:
                raise ConfigError("WeightedOrder: weights", f"{name}: {weight:g}", "A weight is at least 0.")
        for name in weights:
            if name not in dataset.classes:
                near = did_you_mean(name, dataset.classes) or f"It has {', '.join(dataset.classes)}."
                raise ConfigError("WeightedOrder: weights", f'the data has no class "{name}"', near)
        by_label = [weights.get(name, default) for name in dataset.classes]
        each: list[Any] = [[by_label[label] for label in labels_of(target)] for target in targets(dataset)]
        self.weights = torch.tensor([max(own, default=default) for own in each]).double()
        if not self.weights.any():
            raise ConfigError("WeightedOrder: weights", "no image has a weight above 0", "Give one to a class.")
