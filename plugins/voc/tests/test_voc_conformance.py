"""VOC's dataset and evaluator keep their contracts."""

from __future__ import annotations

from pathlib import Path

import pytest
from detcore.testing import check_dataset, check_evaluator
from detcore_voc.dataset import VOCDataset
from detcore_voc.evaluator import VOCEvaluator
from PIL import Image


@pytest.fixture
def dataset(tmp_path: Path) -> VOCDataset:
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    size = "<size><width>40</width><height>30</height></size>"
    box = "<bndbox><xmin>4</xmin><ymin>4</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    rows = {
        "a": f"<object><name>cat</name>{box}</object>",
        "b": f"<object><name>dog</name><difficult>1</difficult>{box}</object>",
        "c": "",
    }
    for name, objects in rows.items():
        Image.new("RGB", (40, 30), (ord(name), 128, 0)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return VOCDataset(root=str(tmp_path))


def test_it_is_a_dataset(dataset: VOCDataset) -> None:
    check_dataset(dataset)


@pytest.mark.parametrize("interpolation", ["area", "11-point"])
def test_it_is_an_evaluator(dataset: VOCDataset, interpolation: str) -> None:
    check_evaluator(VOCEvaluator, dataset, interpolation=interpolation)
