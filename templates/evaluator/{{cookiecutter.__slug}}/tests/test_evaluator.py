"""The evaluator keeps its contract, and counts as one would by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError, DataError
from detcore.structures import Detections
from detcore.testing import check_evaluator
from torchvision import tv_tensors

from {{ cookiecutter.__package }}.evaluator import {{ cookiecutter.__class }}


class Two:
    """Two images: one with two objects and a crowd, one with an object."""

    classes: Sequence[str] = ("cat", "dog")
    rows = (
        ([[0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 40, 40]], [0, 1, 0], [0, 0, 1]),
        ([[5, 5, 25, 25]], [1], [0]),
    )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        boxes, labels, crowd = self.rows[index]
        corners = torch.tensor(boxes, dtype=torch.float32)
        target = {
            "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(40, 40)),
            "labels": torch.tensor(labels),
            "iscrowd": torch.tensor(crowd),
            "image_id": f"image {index}",
        }
        return tv_tensors.Image(torch.zeros(3, 40, 40, dtype=torch.uint8)), target


def found(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels))


def test_it_is_an_evaluator() -> None:
    check_evaluator({{ cookiecutter.__class }}, Two())


def test_counts_by_hand() -> None:
    """Three objects. Right: 1. Wrong: the same object again, a wrong class, too little overlap. A crowd's: left out."""
    evaluator = {{ cookiecutter.__class }}(Two())
    first = found(
        ([0.0, 0.0, 10.0, 9.0], 0.9, 0),
        ([0.0, 0.0, 10.0, 10.0], 0.8, 0),
        ([20.0, 0.0, 30.0, 10.0], 0.7, 0),
        ([0.0, 20.0, 40.0, 39.0], 0.6, 0),
        ([20.0, 0.0, 30.0, 10.0], 0.2, 1),
    )
    evaluator.update([first, found(([5.0, 5.0, 25.0, 14.0], 0.9, 1))], ["image 0", "image 1"])
    assert evaluator.compute() == pytest.approx({"F1": 2 / 7, "precision": 1 / 4, "recall": 1 / 3})


def test_the_last_detections_of_an_image_count() -> None:
    evaluator = {{ cookiecutter.__class }}(Two())
    for corner in (24.0, 25.0, 8.0):
        evaluator.update([found(([5.0, 5.0, corner, corner], 0.9, 1))], ["image 1"])
    assert evaluator.compute() == {"F1": 0.0, "precision": 0.0, "recall": 0.0}


def test_an_image_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError, match="the dataset has no image 'other'"):
        {{ cookiecutter.__class }}(Two()).update([found(([0.0, 0.0, 1.0, 1.0], 0.5, 0))], ["other"])


@pytest.mark.parametrize("options", [{"score": 2.0}, {"iou": 0.0}])
def test_numbers_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"score, iou: .* Give numbers from 0 to 1"):
        {{ cookiecutter.__class }}(Two(), **options)
