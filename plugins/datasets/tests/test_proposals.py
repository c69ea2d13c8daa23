"""Regions from a file beside a dataset's objects."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore.data import Loader
from detcore.errors import ConfigError, DataError
from detcore.preprocess import Preprocess
from detcore_datasets.proposals import ProposalsDataset
from torchvision import tv_tensors
from torchvision.transforms import v2


class Named:
    """Three images of 40 x 60, called by letters, with an object each."""

    classes = ("cat",)
    image_ids = ("a", "b", "c")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        boxes = tv_tensors.BoundingBoxes([[1.0, 2, 30, 20]], format="XYXY", canvas_size=(40, 60))
        target = {"boxes": boxes, "labels": torch.tensor([0]), "image_id": self.image_ids[index]}
        return tv_tensors.Image(torch.zeros(3, 40, 60, dtype=torch.uint8)), target


ROWS = [
    {"image_id": "b", "category_id": 1, "bbox": [10, 5, 20, 10], "score": 0.2},
    {"image_id": "a", "category_id": 1, "bbox": [0, 0, 60, 40], "score": 0.5},
    {"image_id": "b", "category_id": 9, "bbox": [1, 2, 3, 4], "score": 0.9},
    {"image_id": "elsewhere", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1},
    {"image_id": "b", "category_id": 1, "bbox": [0.5, 0, 1, 0], "score": 0.5},
]


def dataset(folder: Path, rows: Any = ROWS, **options: Any) -> ProposalsDataset:
    file = folder / "rows.json"
    if not file.exists():
        file.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return ProposalsDataset(dataset=Named(), file=str(folder / "rows.json"), **options)


def test_an_image_has_its_own_best_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = dataset(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'rows.json'}: 1 images of 3 have no region"
    ]
    target = found[1][1]
    assert target["proposals"].tolist() == [[1, 2, 4, 6], [0.5, 0, 1.5, 0], [10, 5, 30, 15]]
    assert target["proposal_scores"].tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert target["boxes"].tolist() == [[1, 2, 30, 20]]
    assert found[2][1]["proposals"].shape == (0, 4)
    assert dataset(tmp_path, max_proposals=1)[1][1]["proposals"].tolist() == [[1, 2, 4, 6]]
    assert pickle.loads(pickle.dumps(found))[0][1]["proposals"].tolist() == [[0, 0, 60, 40]]


def test_they_reach_the_detector_where_transforms_put_them(tmp_path: Path) -> None:
    """Twice as large, and seen in a mirror: x becomes 120 - 2 x."""
    transforms = [v2.Resize([80, 120]), v2.RandomHorizontalFlip(1.0)]
    raw = next(Loader(dataset(tmp_path), transforms, batch_size=3).epoch(0))
    batch = Preprocess()(raw)
    assert batch.proposals is not None
    assert [len(each) for each in batch.proposals] == [1, 3, 0]
    assert batch.proposals[1].boxes.tolist() == [[112, 4, 118, 12], [117, 0, 119, 0], [60, 10, 100, 30]]
    assert batch.proposals[1].scores.tolist() == pytest.approx([0.9, 0.5, 0.2])
    without = next(Loader(Named(), transforms, batch_size=3).epoch(0))
    assert Preprocess()(without).proposals is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[", "is no file of results: Input data was truncated. It is a list of rows with image_id, bbox and score"),
        ([{"image_id": 1, "bbox": [0, 0, 1]}], r"is no file of results: Expected `array` of length 4.*\$\[0\]\.bbox"),
        ([{"image_id": "a", "bbox": [0, 0, 1, -1], "score": 1}], r"\[0\]: width and height are \[1.0, -1.0\]. Neither"),
        ([ROWS[3]], "has no region of any image of the dataset. Its images are 'elsewhere'."),
        ([], "has no region of any image of the dataset"),
    ],
)
def test_a_file_that_is_none_is_named(rows: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        dataset(tmp_path, rows)
    assert "rows.json" in str(error.value)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^ProposalsDataset: max_proposals: 0\. It is at least 1\.$"):
        dataset(tmp_path, max_proposals=0)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        ProposalsDataset(dataset=Named(), file=str(tmp_path / "none.json"))
