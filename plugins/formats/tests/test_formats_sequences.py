"""Data sets of other libraries are data sets here."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detcore.errors import DataError
from detcore.report import summarize
from detcore.testing import check_dataset
from detcore_formats.sequences import HuggingFaceDataset, TorchvisionDataset, class_labels
from detcore_records.dataset import RecordDataset
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.datasets import VOCDetection, wrap_dataset_for_transforms_v2

PICTURE = Image.new("RGB", (40, 30), (255, 128, 0))
TENSOR = tv_tensors.Image(torch.full((3, 30, 40), 7, dtype=torch.uint8))
NAMES = {1: "cat", 2: "dog"}


def boxes(dataset: RecordDataset, index: int) -> Any:
    return dataset.annotations(index)["boxes"].as_subclass(Tensor).tolist()


def sample(image: Any = PICTURE, **options: Any) -> tuple[Any, dict[str, Any]]:
    return image, {"boxes": torch.tensor([[1.0, 2, 11, 22]]), "labels": torch.tensor([2]), **options}


# ---------------------------------------------------------------------------------------------------------- torchvision


def test_pairs_are_samples() -> None:
    centres = tv_tensors.BoundingBoxes([[6, 12, 10, 20]], format="CXCYWH", canvas_size=(30, 40))  # type: ignore[arg-type]
    extra = {"image_id": torch.tensor(70), "iscrowd": torch.tensor([1]), "area": torch.tensor([5.0])}
    dataset = TorchvisionDataset([sample(), sample(TENSOR, boxes=centres, image_id=7), sample(**extra)], names=NAMES)
    check_dataset(dataset)
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (1, 2))
    assert dataset.image_ids.tolist() == [0, 7, 70]
    assert [boxes(dataset, index) for index in range(3)] == [[[1, 2, 11, 22]]] * 3
    assert dataset[0][1]["labels"].tolist() == [1]
    assert (dataset[0][0][:, 0, 0].tolist(), int(dataset[1][0][0, 0, 0])) == ([255, 128, 0], 7)
    assert (dataset[2][1]["iscrowd"].tolist(), dataset[2][1]["area"].tolist()) == ([1], [5])
    assert pickle.loads(pickle.dumps(dataset))[1][0].shape == (3, 30, 40)


def test_what_a_target_leaves_out() -> None:
    dataset = TorchvisionDataset([(PICTURE, {}), (PICTURE, {"boxes": [[1, 2, 3, 4]]})], names=["face"])
    assert [boxes(dataset, index) for index in (0, 1)] == [[], [[1, 2, 3, 4]]]
    assert dataset.annotations(1)["labels"].tolist() == [0]


def test_classes_choose() -> None:
    pairs = [sample(), sample(labels=torch.tensor([1]))]
    dataset = TorchvisionDataset(pairs, names=NAMES, classes=["dog"], keep_empty=False)
    assert (dataset.classes, dataset.category_ids, len(dataset)) == (("dog",), (2,), 1)


class Broken(Sequence[Any]):
    """Its second sample cannot be read, from some time on the first cannot either."""

    late = False

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: Any) -> Any:
        if number or self.late:
            raise RuntimeError("no such\nsample")
        return sample()


FLAWS: dict[str, tuple[Any, str, str]] = {
    "a label": (sample(labels=torch.tensor([3])), "object 1: ", '"label 3" is none of the classes (Did you mean "'),
    "a box": (
        sample(boxes=torch.tensor([[5.0, 2, 5, 22]])),
        "object 1: ",
        "the box [5.0, 2.0, 5.0, 22.0] (left, top, ri",
    ),
    "rows": (sample(labels=torch.tensor([1, 1])), "", "1 boxes, but 2 names"),
    "no pair": (5, "", "TypeError: cannot unpack non-iterable int object"),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_of_a_sample_is_named_or_reported(name: str) -> None:
    bad, place, what = FLAWS[name]
    what = what.partition(" (Did")[0]
    with pytest.raises(DataError) as caught:
        TorchvisionDataset([sample(), bad], names=NAMES)
    assert str(caught.value).startswith(f"list[1]: {place}{what}")
    dataset = TorchvisionDataset([sample(), bad], names=NAMES, invalid="skip")
    assert [*summarize(dataset.report).values()] == [1]
    assert str(dataset.report[0]).startswith(f"list[1]: {place}{what}")
    assert boxes(dataset, 0) == [[1, 2, 11, 22]]


def test_a_sample_that_cannot_be_read_is_named_or_black() -> None:
    samples = Broken()
    with pytest.raises(DataError, match=r"^Broken\[1\]: RuntimeError: no such sample\. Mend it"):
        TorchvisionDataset(samples, names=NAMES)
    dataset = TorchvisionDataset(samples, names=NAMES, invalid="skip")
    assert len(dataset) == 1
    samples.late = True
    image, target = dataset[0]
    assert (int(image.sum()), len(target["boxes"]), target["dropped"]) == (0, 0, 1)
    assert summarize(dataset.report) == {"unreadable sample: dropped": 1, "unreadable image: blackened": 1}


def test_an_image_that_is_none_or_changes_its_size() -> None:
    pairs = [sample(TENSOR.float()), sample()]
    dataset = TorchvisionDataset(pairs, names=NAMES)
    with pytest.raises(
        DataError,
        match=r"^list\[0\]: the image is \(3, 30, 40\) torch\.float32\. It is Pillow's, or \(3, H, W\) uint8\.$",
    ):
        dataset[0]
    pairs[0] = sample([1, 2])
    with pytest.raises(DataError, match=r"^list\[0\]: the image is list\. It is"):
        dataset[0]
    pairs[1] = sample(Image.new("RGB", (20, 30)))
    with pytest.raises(DataError, match=r"^list\[1\]: the image has \(30, 20\) pixels, not \(30, 40\)"):
        dataset[1]


def test_torchvisions_own_is_read(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a")
    PICTURE.save(root / "JPEGImages/a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22</ymax></bndbox>"
    name = "<object><name>bird</name><difficult>0</difficult>"
    (root / "Annotations/a.xml").write_text(f"<annotation>{name}{box}</object></annotation>")
    voc = wrap_dataset_for_transforms_v2(VOCDetection(str(tmp_path), image_set="train"), ("boxes", "labels"))
    dataset = TorchvisionDataset(voc, names={1: "aeroplane", 2: "bicycle", 3: "bird"})
    check_dataset(dataset)
    assert (boxes(dataset, 0), dataset[0][1]["labels"].tolist()) == ([[1, 2, 11, 22]], [2])


# --------------------------------------------------------------------------------------------------------- Hugging Face

OBJECTS = {"bbox": [[1, 2, 10, 20]], "category": [1], "area": [5.0], "id": [114]}


class Rows(Sequence[Any]):
    """What the adapter asks of ``datasets.Dataset``; counts the images that are decoded."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], features: Any = None, columns: Any = None) -> None:
        self.rows, self.features = rows, {"objects": features}
        self.column_names = [*rows[0]] if columns is None else columns
        self.decoded = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        self.decoded += "image" in self.column_names
        return {name: self.rows[number][name] for name in self.column_names}

    def select_columns(self, names: Sequence[str]) -> Rows:
        return Rows(self.rows, self.features["objects"], names)


def row(**options: Any) -> dict[str, Any]:
    return {"image_id": 5, "image": PICTURE, "width": 40, "height": 30, "objects": OBJECTS, **options}


LABEL = SimpleNamespace(names=["cat", "dog"])


def test_rows_are_samples_and_images_wait() -> None:
    rows = Rows([row(), row(image_id=6, objects={"bbox": [], "category": [], "area": []})], {"category": LABEL})
    dataset = HuggingFaceDataset(rows)
    assert rows.decoded == 0
    check_dataset(dataset)
    assert (dataset.classes, dataset.image_ids.tolist()) == (("cat", "dog"), [5, 6])
    assert boxes(dataset, 0) == [[1, 2, 11, 22]]
    assert (dataset[0][1]["labels"].tolist(), dataset[0][1]["area"].tolist()) == ([1], [5])


def test_other_layouts() -> None:
    listed = [
        {"bbox": [1, 2, 11, 22], "category": "dog", "iscrowd": 1},
        {"bbox": [1, 2, 3, 4], "category": "cat", "iscrowd": 0},
    ]
    rows = Rows([{"picture": PICTURE, "things": listed}, {"picture": PICTURE, "things": []}])
    dataset = HuggingFaceDataset(rows, names=["cat", "dog"], box="corners", image="picture", objects="things")
    check_dataset(dataset)
    assert dataset.image_ids.tolist() == [0, 1]
    assert boxes(dataset, 0) == [[1, 2, 11, 22], [1, 2, 3, 4]]
    assert (dataset[0][1]["labels"].tolist(), dataset[0][1]["iscrowd"].tolist()) == ([1, 0], [1, 0])
    assert len(HuggingFaceDataset([row()], names=["cat", "dog"])) == 1


@pytest.mark.parametrize(
    "feature",
    [
        {"category": LABEL},
        {"category": SimpleNamespace(feature=LABEL)},
        SimpleNamespace(feature={"category": LABEL}),
    ],
)
def test_class_names_are_found_however_they_are_nested(feature: Any) -> None:
    assert class_labels(feature) == ["cat", "dog"]


def test_classes_without_names_are_an_error() -> None:
    for feature in (None, {"category": SimpleNamespace(dtype="int64")}, {}):
        with pytest.raises(DataError) as caught:
            HuggingFaceDataset(Rows([row()], feature))
        assert str(caught.value) == (
            'Rows: objects has no category whose classes have names. Give names=["cat", ...], by number.'
        )


def test_a_flaw_of_a_row_is_named() -> None:
    for bad, what in (
        (
            {"bbox": [[1, 2, 3]], "category": [1]},
            "object 1: the box [1.0, 2.0, 3.0] (left, top, right, bottom) is not one",
        ),
        ({"bbox": [["x", 2, 3, 4]], "category": [1]}, "ValueError: could not convert string to float: 'x'"),
        ({"bbox": [[1, 2, 3, 4]]}, "1 boxes, but 0 names"),
    ):
        with pytest.raises(DataError) as caught:
            HuggingFaceDataset(Rows([row(objects=bad)], {"category": LABEL}))
        assert str(caught.value).startswith(f"Rows[0]: {what}")
