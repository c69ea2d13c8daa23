"""Rows of COCO's results: a round trip changes no bit, and what is wrong in a file is said by row."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from core.runner.tiny import TinyDataset
from detcore.errors import DataError
from detcore.masks import encode, paste
from detcore.results import category_ids, from_rows, image_ids, to_rows
from detcore.structures import Detections
from hypothesis import given, settings
from hypothesis import strategies as st


def detections(seed: int, count: int) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 1000
    boxes = torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 500], 1)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    return Detections(boxes, scores, torch.randint(0, 3, (count,), generator=generator))


@given(st.integers(0, 2**31), st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_rows_through_json_give_the_same_bits_back(seed: int, count: int) -> None:
    found, ids = detections(seed, count), [7, 1, 90]
    rows = json.loads(json.dumps(to_rows(found, 139, ids)))
    back = from_rows(rows, [139], ids)[139]
    assert torch.equal(back.boxes, found.boxes)
    assert torch.equal(back.scores, found.scores)
    assert torch.equal(back.labels, found.labels)


def test_a_row_is_as_coco_has_it() -> None:
    found = Detections(torch.tensor([[1.0, 2, 4, 8]]), torch.tensor([0.5]), torch.tensor([1]))
    assert to_rows(found, "a", [7, 9]) == [
        {"image_id": "a", "category_id": 9, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}
    ]


def test_masks_come_along_where_the_size_of_the_image_is_known() -> None:
    box = torch.tensor([[1.0, 0, 3, 2]])
    found = Detections(box, torch.tensor([0.5]), torch.tensor([0]), torch.ones(1, 4, 4))
    (row,) = to_rows(found, 1, [1], (2, 4))
    assert row["segmentation"] == {"size": [2, 4], "counts": "242"}  # 2 background, 4 mask, 2 background
    assert "segmentation" not in to_rows(found, 1, [1])[0]


def test_images_without_rows_have_no_detections_and_the_best_come_first() -> None:
    rows = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": score} for score in (0.1, 0.9)]
    found = from_rows(rows, [1, 2], [1])
    assert found[1].scores.tolist() == pytest.approx([0.9, 0.1])
    assert len(found[2]) == 0
    assert found[2].boxes.shape == (0, 4)


ROW = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (3, "not a row of COCO's results. A row has image_id, category_id, bbox, score."),
        ({"image_id": 1}, "not a row of COCO's results. A row has image_id, category_id, bbox, score."),
        ({**ROW, "bbox": [0, 0, 1]}, "bbox [0, 0, 1] and score 0.5. A bbox is [x, y, width, height], a score a number."),
        ({**ROW, "score": "high"}, "bbox [0, 0, 1, 1] and score high. A bbox is [x, y, width, height], a score a number."),
        ({**ROW, "bbox": None}, "bbox None and score 0.5. A bbox is [x, y, width, height], a score a number."),
        ({**ROW, "image_id": 2}, "the validation data has no image 2. Are they results on other data?"),
        ({**ROW, "image_id": "1"}, "the validation data has no image '1'. Are they results on other data?"),
        ({**ROW, "image_id": [1]}, "the validation data has no image [1]. Are they results on other data?"),
        ({**ROW, "category_id": 0}, "the validation data has no category 0. It has 1, 2."),
        ({**ROW, "category_id": {}}, "the validation data has no category {}. It has 1, 2."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_row_is_said(row: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        from_rows([ROW, row], [1], [1, 2], "r.json")
    assert str(caught.value) == f"r.json: [1]: {message}"


def test_ids_are_the_datasets_own_or_made_up() -> None:
    plain: Any = TinyDataset(3, classes=("a", "b"))
    assert [*category_ids(plain)] == [1, 2]
    assert image_ids(plain) == [100, 101, 102]
    own: Any = SimpleNamespace(category_ids=(3, 9), image_ids=torch.tensor([4, 5]), classes=("a", "b"))
    assert [*category_ids(own)] == [3, 9]
    assert image_ids(own) == [4, 5]
    named: Any = SimpleNamespace(image_ids=["a", "b"])
    assert image_ids(named) == ["a", "b"]


def test_ids_of_images_are_asked_without_reading_an_image() -> None:
    class Lazy(TinyDataset):
        def __getitem__(self, index: int) -> Any:
            raise AssertionError

        def annotations(self, index: int) -> dict[str, Any]:
            return {"image_id": torch.tensor(index * 2)} if index else {}

    assert image_ids(Lazy(3)) == [0, 2, 4]


def test_a_mask_is_pasted_at_pixel_centres() -> None:
    mask = torch.tensor([[1.0, 0.0]])
    pasted = paste(mask, torch.tensor([1.0, 1, 5, 3]), (4, 6))
    assert pasted.int().tolist() == [[0] * 6, [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]
    assert not paste(mask, torch.tensor([7.0, 0, 9, 3]), (4, 6)).any()


def test_run_lengths_by_hand() -> None:
    # Column by column: 1 1 0 | 0 0 0 -> runs 0, 2, 4; the text holds each as a character from 48 on.
    bitmap = torch.tensor([[1, 0], [1, 0], [0, 0]], dtype=torch.bool)
    assert encode(bitmap) == {"size": [3, 2], "counts": "024"}
    long = torch.zeros(100, 1, dtype=torch.bool)  # 100 = 3 * 32 + 4: "more" bit on the lower five, then 3
    assert encode(long) == {"size": [100, 1], "counts": "T3"}
