"""Metrics of several datasets keep the contract of evaluators."""

from __future__ import annotations

from detcore.testing import check_evaluator
from detcore_coco.evaluator import CocoEvaluator
from detcore_datasets.concat import ConcatDataset, PerDatasetEvaluator
from detcore_shapes.shapes import ShapesDataset


def test_the_evaluator_of_parts_is_an_evaluator() -> None:
    shapes = {name: ShapesDataset(length=4, size=(70, 80), split=name) for name in ("train", "val")}
    check_evaluator(PerDatasetEvaluator, ConcatDataset(datasets=shapes), evaluator=CocoEvaluator)
