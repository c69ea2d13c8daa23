from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from detcore.errors import DataError
from detcore.testing import check_dataset
from detcore_lvis.dataset import LVISDataset
from PIL import Image

DATA = Path(os.environ.get("DETCORE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"), "cocoapi")
URL = "http://images.cocodataset.org/"


def image(number: int, folder: str, **options: Any) -> dict[str, Any]:
    name = f"{number:012}.jpg"
    return {"id": number, "width": 40, "height": 30, "coco_url": f"{URL}{folder}/{name}", **options}


class Case:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = [
            image(7, "val2017", neg_category_ids=[9, 2], not_exhaustive_category_ids=[5]),
            image(3, "train2017", neg_category_ids=[], not_exhaustive_category_ids=[2, 9]),
        ]
        for each in self.images:
            path = root / each["coco_url"].removeprefix(URL)
            path.parent.mkdir()
            Image.new("RGB", (40, 30)).save(path)

    def open(self, **options: Any) -> LVISDataset:
        square = [[1, 2, 11, 2, 11, 22, 1, 22]]
        annotation = {
            "id": 1,
            "image_id": 7,
            "category_id": 5,
            "bbox": [1, 2, 10, 20],
            "area": 200,
            "segmentation": square,
        }
        categories = [
            {"id": id_, "name": name, "frequency": "r"} for id_, name in ((2, "acorn"), (5, "cat"), (9, "zoo"))
        ]
        content = {"images": self.images, "annotations": [annotation], "categories": categories}
        (self.root / "lvis.json").write_text(json.dumps(content))
        return LVISDataset(annotations=f"{self.root}/lvis.json", images=str(self.root), **options)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize("segmentation", ["none", "polygons", "masks"])
def test_a_sample_is_what_the_file_says(case: Case, segmentation: Any) -> None:
    dataset = case.open(segmentation=segmentation)
    check_dataset(dataset)
    target = dataset[0][1]
    assert (dataset.classes, dataset.category_ids) == (("acorn", "cat", "zoo"), (2, 5, 9))
    assert target["boxes"].tolist() == [[1, 2, 11, 22]]
    assert (target["labels"].tolist(), target["image_id"], target["iscrowd"].tolist()) == ([1], 7, [0])
    assert (target["neg_labels"].tolist(), target["not_exhaustive_labels"].tolist()) == ([2, 0], [1])
    assert dataset[1][1]["neg_labels"].tolist() == []
    assert dataset[1][1]["not_exhaustive_labels"].tolist() == [0, 2]


def test_lists_follow_the_chosen_classes(case: Case) -> None:
    dataset = case.open(classes=["zoo", "cat"])
    assert dataset[0][1]["neg_labels"].tolist() == [0]
    assert dataset[0][1]["not_exhaustive_labels"].tolist() == [1]
    assert dataset[0][1]["labels"].tolist() == [1]
    assert len(case.open(classes=["zoo"], keep_empty=True)) == 2


def test_files_are_where_coco_has_them(case: Case) -> None:
    assert case.open().path(1) == case.root / "train2017/000000000003.jpg"
    case.images[1]["coco_url"] = f"{URL}val2017/000000000003.jpg"
    with pytest.raises(DataError) as caught:
        case.open()
    assert str(caught.value).replace(f"{case.root}/", "") == (
        "lvis.json: image 3 (val2017/000000000003.jpg): there is no file val2017/000000000003.jpg. "
        'Mend it, or set invalid = "skip": it will be dropped and reported.'
    )


def test_older_files_name_images(case: Case) -> None:
    case.images[1] = {"id": 3, "width": 40, "height": 30, "file_name": "train2017/000000000003.jpg"}
    assert case.open()[1][0].shape == (3, 30, 40)
    assert case.open()[1][1]["neg_labels"].tolist() == []


def test_an_image_without_a_file_is_named(case: Case) -> None:
    del case.images[1]["coco_url"]
    with pytest.raises(DataError) as caught:
        case.open()
    assert str(caught.value).replace(f"{case.root}/", "") == (
        "lvis.json: images[1]: there is neither coco_url nor file_name. "
        "COCO's format has images, annotations and categories."
    )


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no LVIS sample at {DATA}")
def test_lvis_is_read(tmp_path: Path) -> None:
    content = json.loads((DATA / "lvis_val_100.json").read_text())
    for each in content["images"]:  # nobody reads them here
        path = tmp_path / each["coco_url"].removeprefix(URL)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    dataset = LVISDataset(annotations=f"{DATA}/lvis_val_100.json", images=str(tmp_path), segmentation="polygons")
    assert (len(dataset), len(dataset.classes), dataset.report) == (100, 1230, [])
    seen = 0
    for index, each in enumerate(content["images"]):
        target = dataset.annotations(index)
        rows = [row for row in content["annotations"] if row["image_id"] == each["id"]]
        ids = [dataset.category_ids[label] for label in target["labels"]]
        assert ids == [row["category_id"] for row in rows]
        assert [dataset.category_ids[label] for label in target["neg_labels"]] == each["neg_category_ids"]
        partial = [dataset.category_ids[label] for label in target["not_exhaustive_labels"]]
        assert partial == each["not_exhaustive_category_ids"]
        seen += len(ids)
    assert seen == len(content["annotations"]) == 977
