"""The same images, annotated as COCO's JSON and as YOLO's text, are the same data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest
import torch
from detcore_yolo.dataset import YOLODataset

DATA = Path(os.environ.get("DETCORE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"), "coco128")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no COCO sample at {DATA}")

ROUNDING = 0.5e-6 * 640 + 1e-4
"""Pixels: the text has six digits of fractions of images of up to 640; boxes are float32."""


@pytest.mark.parametrize("segmentation", ["none", "polygons"])
@pytest.mark.parametrize(("split", "objects"), [("train", 746), ("val", 712)])
def test_coco_and_yolo_agree(split: str, objects: int, segmentation: Literal["none", "polygons"]) -> None:
    coco = pytest.importorskip("detcore_coco.dataset", reason="detcore-coco is not installed").CocoDataset(
        annotations=f"{DATA}/annotations/instances_{split}2017.json",
        images=f"{DATA}/images/{split}2017",
        segmentation=segmentation,
    )
    yolo = YOLODataset(data=f"{DATA}/yolo.yaml", split=split, segmentation=segmentation)
    assert (yolo.classes, yolo.category_ids, yolo.report) == (coco.classes, coco.category_ids, [])
    index_of = {int(id_): index for index, id_ in enumerate(yolo.image_ids)}
    assert sorted(index_of) == sorted(coco.image_ids.tolist())
    seen = 0
    for index, id_ in enumerate(coco.image_ids.tolist()):
        wanted, found = coco.annotations(index), yolo.annotations(index_of[id_])
        assert found["labels"].tolist() == wanted["labels"].tolist()
        assert found["boxes"].canvas_size == wanted["boxes"].canvas_size
        for key in ("boxes", "polygons") if segmentation == "polygons" else ("boxes",):
            torch.testing.assert_close(found[key].data, wanted[key].data, rtol=0, atol=ROUNDING)
        if segmentation == "polygons":
            assert found["offsets"].tolist() == wanted["offsets"].tolist()
            assert found["owner"].tolist() == wanted["owner"].tolist()
        seen += len(found["labels"])
    assert seen == objects
    assert torch.equal(yolo[0][0], coco[coco.image_ids.tolist().index(int(yolo.image_ids[0]))][0])
