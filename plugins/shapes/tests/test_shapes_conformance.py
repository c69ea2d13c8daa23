"""The drawn dataset keeps the contract of datasets."""

from __future__ import annotations

from detcore.testing import check_dataset
from detcore_shapes.shapes import ShapesDataset


def test_it_is_a_dataset() -> None:
    check_dataset(ShapesDataset(length=20, size=(96, 128), empty=0.3))


def test_it_is_a_dataset_with_outlines() -> None:
    check_dataset(ShapesDataset(length=20, size=(96, 128), polygons=True, masks=True))
