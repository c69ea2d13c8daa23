"""COCO's dataset and evaluator keep their contracts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from detcore.testing import check_dataset, check_evaluator
from detcore_coco.dataset import CocoDataset
from detcore_coco.evaluator import CocoEvaluator
from PIL import Image

SQUARE = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]


def annotation(number: int, image: int, crowd: int) -> dict[str, Any]:
    outline = {"size": [30, 40], "counts": [604, 16, 580]} if crowd else SQUARE
    row = {"id": number, "image_id": image, "category_id": 3 + 4 * (number % 2), "bbox": [4, 4, 16, 16]}
    return {**row, "area": 256, "iscrowd": crowd, "segmentation": outline}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (7, 50, 9):
        Image.new("RGB", (40, 30), (number, 128, 0)).save(tmp_path / f"{number}.png")
    content = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 40, "height": 30} for number in (7, 50, 9)],
        "annotations": [annotation(1, 7, 0), annotation(2, 7, 1), annotation(3, 50, 0), annotation(4, 50, 0)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("segmentation", ["none", "polygons", "masks"])
def test_it_is_a_dataset(folder: Path, segmentation: Literal["none", "polygons", "masks"]) -> None:
    check_dataset(CocoDataset(annotations=f"{folder}/a.json", images=str(folder), segmentation=segmentation))


@pytest.mark.parametrize("engine", ["faster", "pycocotools"])
def test_it_is_an_evaluator(folder: Path, engine: str) -> None:
    dataset = CocoDataset(annotations=f"{folder}/a.json", images=str(folder))
    check_evaluator(CocoEvaluator, dataset, engine=engine)
