"""Lists of dicts are a dataset; every object of theirs is used or reported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detcore.errors import DataError
from detcore.testing import check_dataset
from detcore_records.rows import ListDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    for name in "abc":
        Image.new("RGB", (40, 30)).save(path / f"{name}.png")
    return path


def row(**options: Any) -> dict[str, Any]:
    return {"image": "a.png", "boxes": [[1, 2, 11, 22], [3, 4, 5, 6]], "labels": ["dog", "cat"], **options}


def test_rows_are_a_dataset(folder: Path) -> None:
    dataset = ListDataset(rows=[row(), {"image": folder / "b.png"}], images=str(folder))
    check_dataset(dataset)
    target = dataset[0][1]
    assert dataset.classes == ("cat", "dog")
    assert target["boxes"].tolist() == [[1, 2, 11, 22], [3, 4, 5, 6]]
    assert (target["labels"].tolist(), target["image_id"]) == ([1, 0], "a.png")
    assert dataset[1][1]["boxes"].shape == (0, 4)


def test_arrays_tensors_and_numbers_of_classes_do(folder: Path) -> None:
    rows = [
        row(id=np.int64(7), labels=torch.tensor([0, 1]), boxes=torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])),
        row(image="b.png", id=8, labels=np.array([1, 1]), iscrowd=np.array([1, 0]), area=torch.tensor([5.0, 6.0])),
    ]
    dataset = ListDataset(rows=rows, images=str(folder), classes=["x", "y"])
    assert dataset.image_ids.tolist() == [7, 8]
    assert dataset[0][1]["labels"].tolist() == [0, 1]
    assert dataset[1][1]["iscrowd"].tolist() == [1, 0]
    assert dataset[1][1]["area"].tolist() == [5, 6]


def test_polygons_do_for_boxes(folder: Path) -> None:
    rows = [{"image": "a.png", "labels": ["cat"], "polygons": [[[1, 2, 9, 2, 9, 8]]]}]
    dataset = ListDataset(rows=rows, images=str(folder), segmentation="polygons")
    check_dataset(dataset)
    assert dataset[0][1]["boxes"].tolist() == [[1, 2, 9, 8]]
    assert dataset[0][1]["polygons"].tolist() == [[1, 2], [9, 2], [9, 8]]


BAD: dict[str, tuple[Any, str]] = {
    "no dict": ([1, 2], "a list, not a dict with image, boxes, labels"),
    "no image": ({"labels": []}, "image is None, not a path"),
    "misspelt": (row(lables=[]), 'lables is no key. Did you mean "labels"?'),
    "strange": (
        row(xyz=[]),
        "xyz is no key. There are image, boxes, labels, id, width, height, iscrowd, area, polygons.",
    ),
    "a text": (row(labels="cat"), "labels is 'cat', not a list with an entry for each object"),
    "a number": (row(boxes=5), "boxes is 5, not a list with an entry for each object"),
    "too few": (row(labels=["cat"]), "2 boxes, but 1 names"),
    "width": (row(width="wide"), "not numbers where they are wanted: invalid literal for int() with base 10: 'wide'"),
    "polygons": (
        {"image": "a.png", "labels": ["cat"], "polygons": [5]},
        "not numbers where they are wanted: 'int' object is not iterable",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_row_that_is_none_is_named_or_reported(folder: Path, case: str) -> None:
    bad, what = BAD[case]
    with pytest.raises(DataError) as caught:
        ListDataset(rows=[row(), bad], images=str(folder))
    assert (caught.value.where, caught.value.found) == ("rows[1]", what)
    dataset = ListDataset(rows=[row(), bad], images=str(folder), invalid="skip")
    assert [str(flaw) for flaw in dataset.report] == [f"rows[1]: {what}; dropped"]


def test_a_number_that_is_no_class_is_a_flaw(folder: Path) -> None:
    with pytest.raises(DataError, match=r'^rows\[0\]: object 2: "label 2" is none of the classes\. Mend it'):
        ListDataset(rows=[row(labels=[0, 2])], images=str(folder), classes=["x", "y"])


numbers = st.sampled_from([0, 0.5, 1, 5, 20, 30, 40, 41.5, -7, 60, float("nan"), float("inf"), "x", None])
boxes = st.lists(numbers, min_size=3, max_size=5) | st.tuples(*[st.integers(-3, 45)] * 4)
objects = st.tuples(boxes, st.sampled_from(["cat", "dog", "bird", ""]), st.booleans())
files = st.sampled_from(["a.png", "b.png", "c.png", "gone.png"])
images = st.tuples(files, st.lists(objects, max_size=6), st.sampled_from([None, 30, 0]))


@settings(deadline=None)
@given(st.lists(images, max_size=5))
def test_every_object_is_used_or_reported_once(folder: Path, drawn: list[Any]) -> None:
    sound = {"image": "a.png", "id": "sound", "boxes": [[1, 2, 3, 4]], "labels": ["cat"]}
    rows = [
        {
            "image": file,
            "boxes": [box for box, _, _ in found],
            "labels": [name for _, name, _ in found],
            "iscrowd": [crowd for _, _, crowd in found],
            **({} if height is None else {"width": 40, "height": height}),
        }
        for file, found, height in drawn
    ]
    dataset = ListDataset(rows=[sound, *rows], images=str(folder), classes=["cat", "dog"], invalid="skip")
    assert len({(flaw.where, flaw.kind) for flaw in dataset.report}) == len(dataset.report)
    dropped = Counter(flaw.where.partition(": ")[0] for flaw in dataset.report if flaw.action == "dropped")
    gone = {flaw.where for flaw in dataset.report if ": object" not in flaw.where}
    used = {target["image_id"]: target for target in map(dataset.annotations, range(len(dataset)))}
    for number, each in enumerate(rows, 1):
        where = f"rows[{number}]"
        if where in gone:
            assert dropped[where] == 1  # the image; its objects with it, none of which is named beside
        else:
            assert len(used.pop(each["image"])["boxes"]) + dropped[where] == len(each["boxes"])
    assert [*used] == ["sound"]
    for target in used.values():
        assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
