"""Detectors learn eight images by heart, and which images these are (`benchmarks/overfit.py`)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("overfit", ROOT / "benchmarks" / "overfit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


overfit = script()
needs_data = pytest.mark.skipif(not overfit.DATA.is_dir(), reason=f"no real data at {overfit.DATA}")


def content(*images: tuple[int, int, int, list[tuple[float, float, int]]]) -> dict[str, Any]:
    """Images of an id, a width and a height, with objects of a width, a height and a crowd's mark."""
    return {
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": number, "width": width, "height": height} for number, width, height, _ in images],
        "annotations": [
            {"image_id": number, "category_id": 1, "bbox": [0, 0, *size], "iscrowd": crowd}
            for number, _, _, objects in images
            for *size, crowd in objects
        ],
    }


def test_images_are_the_first_by_id_with_few_objects_of_a_size_that_can_be_seen() -> None:
    large, edge, flat = (200, 100, 0), (64, 64, 0), (300, 63, 0)
    some = content(
        (9, 512, 300, [large, large]),
        (8, 300, 512, [edge, large]),  # 64 of 512 pixels are 32 of 256
        (7, 512, 300, [large, flat]),
        (6, 512, 300, [large]),
        (5, 512, 300, [large] * 10),
        (4, 512, 300, [large] * 11),
        (3, 512, 300, [large, large, (200, 100, 1)]),
        (2, 512, 300, []),
        (1, 1024, 300, [large, edge]),
    )
    assert overfit.chosen(some) == [5, 8, 9]
    assert overfit.chosen(some, 2) == [5, 8]
    assert overfit.chosen(some, side=1024)[:3] == [1, 5, 7]
    part = overfit.subset(some, [8, 3])
    assert [each["id"] for each in part["images"]] == [8, 3]
    assert [each["image_id"] for each in part["annotations"]] == [8, 8, 3, 3, 3]
    assert part["categories"] == some["categories"]


@needs_data
def test_of_coco128_they_are_these() -> None:
    found = json.loads((overfit.DATA / "annotations" / "instances_train2017.json").read_text())
    assert overfit.chosen(found) == [30, 36, 72, 73, 86, 92, 142, 143]


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("recipe", ["retinanet/retinanet_debug", "mask_rcnn/mask_rcnn_debug"])
def test_detectors_learn_them_by_heart(recipe: str) -> None:
    result = overfit.overfit(ROOT / "configs" / f"{recipe}.toml")
    print(result)
    assert min(result.ap50) >= overfit.LEAST_AP50


def test_a_result_is_met_by_score_and_time() -> None:
    assert overfit.Result([0.9, 0.95], 480.0, 900.0).met
    assert not overfit.Result([0.95, 0.89], 100.0, 100.0).met
    assert not overfit.Result([1.0], 481.0, 900.0).met
