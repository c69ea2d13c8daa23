"""Scoring results that are in a file, and what `core-run eval` leaves of an evaluation: rows and pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from detcore.assemble import Parts, evaluation
from detcore.errors import DataError
from detcore.interfaces import Dataset, Evaluator
from detcore.pictures import samples_sheet
from detcore.recipe import ValSettings
from detcore.results import category_ids, from_rows, image_ids, targets
from detcore.runner.evaluate import Evaluation
from detcore.structures import Detections

NOTHING = ("val.dataset", "no image has an object: there is nothing to score")


class Unscored(Evaluator):
    """For data without objects: there is nothing to compare with."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        """Nothing is kept."""

    def compute(self) -> dict[str, float]:
        """No metric."""
        return {}


def has_objects(dataset: Dataset) -> bool:
    """Whether anything is annotated; asks no more images than it must."""
    return any(len(target.get("boxes", ())) for target in targets(dataset))


def score_detector(parts: Parts, *, written: bool, drawn: bool) -> Evaluation:
    """What the detector finds in the validation data, scored; where nothing is annotated, it is only found.

    Args:
        parts: With the validation data.
        written: Whether the results will be written; else data without objects is an error.
        drawn: Whether what was found in every image is kept, to be drawn.

    Raises:
        UserError: As said, and what evaluation raises.
    """
    settings = parts.val
    assert settings is not None, "built without wanting val"
    if not has_objects(settings.dataset):
        if not written:
            raise DataError(*NOTHING, "Write the results with --output FILE.")
        print("no image has an object: the results are written, not scored")
        parts = attrs.evolve(parts, val=attrs.evolve(settings, evaluator=Unscored))
    return evaluation(parts)(parts.model, samples=len(settings.dataset) if drawn else 0)


def score_file(settings: ValSettings, file: Path) -> Evaluation:
    """The metrics of results that a file holds; no model takes part.

    Args:
        settings: The validation data and its evaluator.
        file: COCO's results JSON, with the dataset's ids of images and categories.

    Raises:
        DataError: The file cannot be read, is something else, or is of other data; nothing is annotated.
    """
    dataset = settings.dataset
    if not has_objects(dataset):
        raise DataError(*NOTHING)
    rows, ids = _read(file), image_ids(dataset)
    found = from_rows(rows, ids, category_ids(dataset), str(file))
    evaluator = settings.evaluator(dataset)
    if not evaluator.update_rows(rows, str(file)):
        evaluator.update([*found.values()], [*found])
    return Evaluation(evaluator.compute(), rows, dict(enumerate(found[id_] for id_ in ids)), dataset)


def draw_samples(evaluation: Evaluation, folder: Path, score: float) -> None:
    """A picture for each image whose detections were kept: as it is annotated beside what was found.

    Args:
        evaluation: With its dataset.
        folder: Where to.
        score: What scores less is not drawn.

    Raises:
        DataError: An image cannot be read.
    """
    assert evaluation.dataset is not None, "an evaluation of no dataset"
    folder.mkdir(parents=True, exist_ok=True)
    ids = image_ids(evaluation.dataset)
    for index, found in evaluation.samples.items():
        name = re.sub(r"[^\w.-]", "_", str(ids[index]))
        path = folder / f"{index:0{len(str(len(ids)))}d}-{name}.png"
        samples_sheet(evaluation.dataset, {index: found}, path, threshold=score)


def _read(file: Path) -> list[Any]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(str(file), f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(str(file), f"not JSON: {error}") from error
    if not isinstance(rows, list):
        fix = "COCO's results are a list of rows, as core-run eval --output writes them."
        raise DataError(str(file), f"holds a {type(rows).__name__}", fix)
    return rows
