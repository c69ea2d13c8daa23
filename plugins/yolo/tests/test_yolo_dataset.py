from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from detcore.errors import DataError
from detcore.report import summarize
from detcore.testing import check_dataset
from detcore_yolo.dataset import YOLODataset, label_path
from PIL import Image
from torch import Tensor

YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"


class Case:
    """Two images of 40 x 20, of which a has a cat and a dog, and b a cat with an outline."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.yaml = root / "data.yaml"
        self.yaml.write_text(YAML)
        for name in ("a", "b"):
            self.image(f"images/train/{name}.png")
        self.text("labels/train/a.txt", "0 0.5 0.5 0.25 0.5", "1 0.125 0.25 0.25 0.5", "")
        self.text("labels/train/b.txt", "0 0.1 0.1 0.5 0.1 0.5 0.5")

    def image(self, name: str, size: tuple[int, int] = (40, 20)) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (255, 128, 0)).save(self.root / name)

    def text(self, name: str, *lines: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text("\n".join(lines))

    def open(self, **options: Any) -> YOLODataset:
        return YOLODataset(**{"data": str(self.yaml), **options})

    def error(self, **options: Any) -> str:
        with pytest.raises(DataError) as caught:
            self.open(**options)
        return self.plain(caught.value)

    def plain(self, text: object) -> str:
        assert "\n" not in str(text).partition("\nclass ")[0]  # a table of classes may follow
        return str(text).replace(f"{self.root}/", "")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def boxes(dataset: YOLODataset, index: int) -> Any:
    return dataset.annotations(index)["boxes"].as_subclass(Tensor).flatten().tolist()


def ids(dataset: YOLODataset) -> list[str]:
    return [*dataset.image_ids]


def test_a_sample_is_what_the_text_says(case: Case) -> None:
    dataset = case.open()
    check_dataset(dataset)
    image, target = dataset[0]
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (0, 1))
    assert ids(dataset) == ["a", "b"]
    assert (image.shape, target["boxes"].canvas_size) == ((3, 20, 40), (20, 40))
    assert target["boxes"].tolist() == [[15, 5, 25, 15], [0, 0, 10, 10]]
    assert (target["labels"].tolist(), target["image_id"]) == ([0, 1], "a")
    assert target["area"].tolist() == [100, 100]
    assert boxes(dataset, 1) == pytest.approx([4, 2, 20, 10])
    assert dataset.report == []
    assert boxes(pickle.loads(pickle.dumps(dataset)), 1) == boxes(dataset, 1)


def test_outlines_are_polygons(case: Case) -> None:
    case.text("labels/train/a.txt", "1 0 0 1 0 1 1 0 1")
    dataset = case.open(segmentation="polygons")
    check_dataset(dataset)
    assert dataset[0][1]["polygons"].tolist() == [[0, 0], [40, 0], [40, 20], [0, 20]]
    case.text("labels/train/a.txt", "0 0.5 0.5 0.25 0.5")
    assert case.error(segmentation="polygons").startswith("labels/train/a.txt: line 1: there is no outline.")


@pytest.mark.parametrize(
    "names", ["names: [cat, dog]", "names: {1: dog, 0: cat}", "names:\n- cat\n- dog", "names: {'0': cat, '1': dog}"]
)
def test_names_are_a_list_or_by_number(case: Case, names: str) -> None:
    case.yaml.write_text(f"train: images/train\n{names}")
    assert case.open().classes == ("cat", "dog")


def test_numbers_of_classes_may_have_gaps(case: Case) -> None:
    case.yaml.write_text("train: images/train\nnames: {7: dog, 3: cat}")
    case.text("labels/train/a.txt", "7 0.5 0.5 0.25 0.5")
    case.text("labels/train/b.txt", "3 0.5 0.5 0.25 0.5")
    dataset = case.open()
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (3, 7))
    assert [dataset.annotations(index)["labels"].tolist() for index in (0, 1)] == [[1], [0]]


def test_classes_choose_and_order(case: Case) -> None:
    dataset = case.open(classes=["dog"])
    assert (dataset.classes, dataset.category_ids) == (("dog",), (1,))
    assert [boxes(dataset, index) for index in (0, 1)] == [[0, 0, 10, 10], []]
    assert case.error(classes=["dgo"]).splitlines()[0] == (
        'data.yaml: no class is called "dgo", which the config lists in classes. Did you mean "dog"?'
    )
    assert case.open(classes=["dog"]).annotated_classes["dog"] == 1


def test_a_split_is_a_folder_a_list_or_several(case: Case) -> None:
    case.image("images/val/c.png")
    case.text("labels/val/c.txt", "1 0.5 0.5 0.25 0.5")
    case.text("lists/few.txt", "images/train/b.png", "", "./d.png", str(case.root / "images/val/c.png"))
    case.image("lists/d.png")  # from the list's folder; its text is beside it
    case.text("lists/d.txt", "1 0.5 0.5 0.25 0.5")
    case.yaml.write_text(f"{YAML}few: lists/few.txt\nboth: [images/train, images/val]\nall: images")
    assert ids(case.open(split="few")) == ["images/train/b", "lists/d", "images/val/c"]
    assert ids(case.open(split="both")) == ["images/train/a", "images/train/b", "images/val/c"]
    assert ids(case.open(split="all")) == ["train/a", "train/b", "val/c"]
    assert [case.open(split="few").annotations(index)["labels"].tolist() for index in range(3)] == [[0], [1], [1]]
    assert case.open(split="few")[1][0].shape == (3, 20, 40)


def test_paths_start_from_the_file_its_path_or_the_root(case: Case, tmp_path: Path) -> None:
    (case.root / "configs").mkdir()
    case.yaml = case.yaml.rename(case.root / "configs/data.yaml")
    case.yaml.write_text(YAML.replace("path: .", "path: .."))
    assert len(case.open()) == 2
    case.yaml.write_text(YAML.replace("path: .", "path: /nowhere"))
    assert case.error() == (
        "configs/data.yaml: train: there is no /nowhere/images/train. Check path and the split, or set root in the config."
    )
    assert len(case.open(root=str(case.root))) == 2


def test_a_split_that_leaves_the_folder_by_mistake_is_found(case: Case) -> None:
    case.image("train/images/a.png")
    case.text("train/labels/a.txt", "1 0.5 0.5 0.25 0.5")
    case.yaml.write_text("train: ../train/images\nnames: [cat, dog]")
    assert case.open().annotations(0)["labels"].tolist() == [1]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("d/images/train/a.b.jpg", "d/labels/train/a.b.txt"),
        ("/images/x/images/a.png", "/images/x/labels/a.txt"),
        ("d/photos/a.png", "d/photos/a.txt"),
        ("my_images/a.png", "my_images/a.txt"),
    ],
)
def test_where_the_text_of_an_image_is(image: str, label: str) -> None:
    assert label_path(image) == label


def test_an_image_without_text_has_no_object_and_is_noted(case: Case) -> None:
    os.remove(case.root / "labels/train/a.txt")
    dataset = case.open()
    assert dataset[0][1]["boxes"].shape == (0, 4)
    assert [case.plain(flaw) for flaw in dataset.report] == [
        "labels/train/a.txt: there is no such text: the image has no object; kept"
    ]
    assert ids(case.open(keep_empty=False)) == ["b"]


def test_no_text_at_all_is_an_error(case: Case) -> None:
    (case.root / "labels").rename(case.root / "lables")
    assert case.error(invalid="skip") == (
        "data.yaml: none of 2 images has a text: the first would be labels/train/a.txt. "
        "The texts of images/a.jpg and of b.jpg: labels/a.txt and b.txt."
    )


FLAWS = {
    "unreadable line": {
        "0 0.5 0.5 x 0.5": '"0 0.5 0.5 x 0.5" is not made of numbers',
        "0 " + "0.123456 " * 9 + "x": f'"0 {"0.123456 " * 5}0.1..." is not made of numbers',
        "0 0.5 0.5 0.2": "4 numbers; a class and a box are 5, a class and an outline 7, 9, 11 or more",
        "0 0.5 0.5 0.2 0.2 0.9": "6 numbers; a class and a box are 5, a class and an outline 7, 9, 11 or more",
        "0 0 0 1 0 1 1 0": "8 numbers; a class and a box are 5, a class and an outline 7, 9, 11 or more",
    },
    "unknown class": {
        "2 0.5 0.5 0.25 0.5": "class 2 is none of the names, which are 0 to 1",
        "0.5 0.5 0.5 0.25 0.5": "class 0.5 is none of the names, which are 0 to 1",
        "nan 0.5 0.5 0.25 0.5": "class nan is none of the names, which are 0 to 1",
    },
    "object listed twice": {"0 0.50 0.5 0.25 0.5": "line 1 is the same"},
    "box not finite": {
        "1 0.5 0.5 nan 0.5": "the box [nan, 5.0, nan, 15.0] (left, top, right, bottom) is not finite",
    },
    "box without area": {"1 0.5 0.5 0 0.5": "the box [20.0, 5.0, 20.0, 15.0] (left, top, right, bottom) has no area"},
    "box outside the image": {
        "1 20 10 10 10": "the box [600.0, 100.0, 1000.0, 300.0] (left, top, right, bottom) is not inside the image of 40 x 20"
    },
}


@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind, lines in FLAWS.items() for line in lines])
def test_a_flaw_of_a_line_is_named_or_skipped_and_reported(case: Case, kind: str, line: str) -> None:
    where = f"labels/train/a.txt: line 3: {FLAWS[kind][line]}"
    case.text("labels/train/a.txt", "0 0.5 0.5 0.25 0.5", "", line)
    assert case.error() == f'{where}. Mend it, or set invalid = "skip": it will be dropped and reported.'
    dataset = case.open(invalid="skip")
    assert [case.plain(flaw) for flaw in dataset.report] == [f"{where}; dropped"]
    assert summarize(dataset.report) == {f"{kind}: dropped": 1}
    assert boxes(dataset, 0) == [15, 5, 25, 15]


def test_a_text_that_is_none_drops_its_image(case: Case) -> None:
    (case.root / "labels/train/a.txt").write_bytes(b"0 \xff\xfe")
    assert case.error().startswith("labels/train/a.txt: cannot be read as text: 'utf-8' codec can't decode byte 0xff")
    assert ids(case.open(invalid="skip")) == ["b"]


def test_a_listed_image_that_is_missing_or_listed_twice_is_a_flaw(case: Case) -> None:
    case.text("few.txt", "images/train/a.png", "images/train/gone.png", "images/train/a.png")
    case.yaml.write_text(f"{YAML}few: few.txt")
    dataset = case.open(split="few", invalid="skip")
    assert ids(dataset) == ["images/train/a"]
    assert summarize(dataset.report) == {
        "image without text: kept": 1, "missing image file: dropped": 1, "image id used twice: dropped": 1
    }  # fmt: skip


def test_an_edited_text_and_a_new_image_are_read(case: Case) -> None:
    assert len(case.open()[0][1]["boxes"]) == 2
    case.text("labels/train/a.txt", "0 0.5 0.5 0.25 0.5")
    assert len(case.open()[0][1]["boxes"]) == 1
    case.image("images/train/c.png")
    case.text("labels/train/c.txt", "0 0.5 0.5 0.25 0.5")
    assert ids(case.open()) == ["a", "b", "c"]
    case.yaml.write_text(YAML.replace("cat", "ox"))
    assert case.open().classes == ("ox", "dog")


MISTAKES = {
    "names: [cat": "data.yaml: not YAML: while parsing a flow sequence",
    "- cat": "data.yaml: has no keys. It has names, train, val.",
    "train: images/train": "data.yaml: names: there are none. Name each class: [cat, dog], or {0: cat, 1: dog}.",
    "train: images/train\nnames: 3": "data.yaml: names: not a list of names, nor names by number: 3. Name each class:",
    "train: images/train\nnames: {x: cat}": "data.yaml: names: not a list of names, nor names by number: {'x': 'cat'}.",
    "train: images/train\nnames: [a, b, a]": 'data.yaml: names: two are called "a". Give each its own.',
    "train: images/train\nnames: [a, '']": "data.yaml: names: one is empty. Give each its own.",
    "trian: images/train\nnames: [a]": (
        'data.yaml: train: there is no such key, which the config names as split. Did you mean "trian"?'
    ),
    "x: y\nnames: [a]": "data.yaml: train: there is no such key, which the config names as split. It has x, names.",
    "train: 3\nnames: [a]": "data.yaml: train: 3 is no path. Name a folder, a list, or some of them.",
    "train: []\nnames: [a]": "data.yaml: train: [] is no path. Name a folder, a list, or some of them.",
    "path: 3\ntrain: x\nnames: [a]": "data.yaml: path: 3 is no path. It is a text.",
    "train: gone\nnames: [a]": "data.yaml: train: there is no gone. Check path and the split, or set root in the config.",
    "!!python/object/apply:os.getcwd []": "data.yaml: not YAML: could not determine a constructor for the tag",
    "when: 2020-13-45\nnames: [a]": "data.yaml: not YAML that can be read: month must be in 1..12",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_what_is_wrong_with_a_description_is_named(case: Case, text: str) -> None:
    case.yaml.write_text(text)
    assert case.error().startswith(MISTAKES[text])


def test_a_description_that_is_not_there_or_no_text(case: Case) -> None:
    case.yaml.write_bytes(b"\xff\xfe\x00")
    assert case.error() == "data.yaml: not YAML: not a text in UTF-8. Is it the right file?"
    case.yaml.unlink()
    assert case.error() == "data.yaml: cannot be read: No such file or directory. Check the path."


def test_a_list_that_is_no_text_or_empty(case: Case) -> None:
    case.yaml.write_text(f"{YAML}few: few.txt")
    (case.root / "few.txt").write_bytes(b"\xff")
    assert case.error(split="few").startswith("few.txt: cannot be read as text: 'utf-8' codec")
    case.text("few.txt", "")
    assert case.error(split="few") == "data.yaml: lists no image. Is it the right one?"
