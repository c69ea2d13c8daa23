"""Evaluators: detections to metrics."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from detcore.interfaces import Dataset, Evaluator
from detcore.structures import Detections
from detcore.testing.compare import ConformanceError, different, during, unchanged

Scored = tuple[Detections, int | str]


def check_evaluator(
    make: Callable[..., Evaluator],
    dataset: Dataset,
    *,
    best: float | None = 1.0,
    lower_is_better: Sequence[str] = (),
    **options: Any,
) -> None:
    """No detections score 0, the ground truth the best, in whatever order and portions it comes, a pickle on the way.

    Args:
        make: The class, or anything that takes a dataset; of boxes, not masks.
        dataset: A small one, in which something is to be found.
        best: What the main metric, the first one, is of the ground truth; None: only more than nothing.
        lower_is_better: Metrics, not the main one, that are no share of what was found, such as miss rates.
        options: Given to ``make``.

    Raises:
        ConformanceError: A contract is broken.
    """
    name = getattr(make, "__name__", type(make).__name__)
    truth = [_as_detections(dataset[index][1]) for index in range(len(dataset))]
    nothing = _metrics(name, "nothing", make(dataset, **options), [])
    whole = _metrics(name, "the ground truth", make(dataset, **options), [truth])
    backwards = _metrics(name, "the ground truth", make(dataset, **options), [[each] for each in truth[::-1]])
    if set(nothing) != set(whole):
        raise ConformanceError(name, f"its metrics are {[*nothing]} or {[*whole]}", "They are always the same ones.")
    shares = [metric for number, metric in enumerate(whole) if not number or metric not in lower_is_better]
    if max(nothing[metric] for metric in shares) > 0:
        raise ConformanceError(name, f"no detections at all score {nothing}", "They score 0.")
    if max(whole[metric] for metric in shares) <= 0:
        raise ConformanceError(name, f"the ground truth as detections scores {whole}", "It is the best there can be.")
    if difference := different(whole, backwards):
        raise ConformanceError(name, f"metrics depend on the order of images: {difference}", "They are of the whole.")
    empty = _metrics(name, "images without detections", make(dataset, **options), [[*map(_without, truth)]])
    if max(empty[metric] for metric in shares) > 0:
        raise ConformanceError(name, f"images without detections score {empty}", "They score 0.")
    _check_main(name, whole, best)
    _check_worse(name, whole, make(dataset, **options), truth)
    _check_pickled(name, whole, make(dataset, **options), truth)


def _check_main(name: str, whole: Mapping[str, float], best: float | None) -> None:
    main, value = next(iter(whole.items()))
    if best is not None and abs(value - best) > 1e-6:
        found = f"the ground truth as detections has a {main}, its main metric, of {value:g}, not {best:g}"
        raise ConformanceError(name, found, "The first metric is higher for better; say best=... if it ends elsewhere.")


def _check_worse(name: str, whole: Mapping[str, float], evaluator: Evaluator, truth: Sequence[Scored]) -> None:
    """Boxes beside the objects score less in the main metric."""
    main = next(iter(whole))
    away = [(Detections(found.boxes + 1e4, found.scores, found.labels), id_) for found, id_ in truth]
    score = _metrics(name, "boxes far away", evaluator, [away])[main]
    if score >= whole[main]:
        found = f"boxes that meet nothing have a {main} of {score:g}, the ground truth {whole[main]:g}"
        raise ConformanceError(name, found, "Where the boxes are must matter.")


def _check_pickled(name: str, whole: Mapping[str, float], evaluator: Evaluator, truth: Sequence[Scored]) -> None:
    """What was taken is not lost when it is pickled."""
    middle = len(truth) // 2
    with during(name, "when it is pickled"):
        _update(evaluator, truth[:middle])
        evaluator = pickle.loads(pickle.dumps(evaluator))
    metrics = _metrics(name, "the ground truth, pickled on the way", evaluator, [truth[middle:]])
    if difference := different(whole, metrics):
        raise ConformanceError(name, f"it scores otherwise when it was pickled: {difference}", "Its state goes along.")


def _as_detections(target: Mapping[str, Any]) -> Scored:
    real = ~target["iscrowd"].bool() if "iscrowd" in target else slice(None)
    boxes, labels = target["boxes"].as_subclass(Tensor)[real], target["labels"][real]
    return Detections(boxes, torch.ones(len(boxes)), labels), target["image_id"]


def _without(scored: Scored) -> Scored:
    return scored[0].each(lambda rows: rows[:0]), scored[1]


def _update(evaluator: Evaluator, portion: Sequence[Scored]) -> None:
    evaluator.update([found for found, _ in portion], [id_ for _, id_ in portion])


def _metrics(name: str, what: str, evaluator: Evaluator, portions: Sequence[Sequence[Scored]]) -> dict[str, float]:
    detections = [found for portion in portions for found, _ in portion]
    with unchanged(name, "the detections", detections), during(name, f"of {what}"):
        for portion in portions:
            _update(evaluator, portion)
        metrics = evaluator.compute()
    if not metrics or not all(type(value) is float for value in metrics.values()):
        raise ConformanceError(name, f"computes {metrics!r} of {what}", "It is a dict of names and plain floats.")
    return metrics
