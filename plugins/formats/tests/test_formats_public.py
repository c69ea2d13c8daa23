"""Formats of public data sets: Open Images, CrowdHuman, WIDER FACE, Cityscapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detcore.errors import DataError
from detcore.report import summarize
from detcore.testing import check_dataset
from detcore_formats.cityscapes import CLASSES, CityscapesDataset
from detcore_formats.crowd_human import CrowdHumanDataset
from detcore_formats.open_images import OpenImagesDataset
from detcore_formats.wider_face import WIDERFaceDataset
from detcore_records.dataset import RecordDataset
from PIL import Image
from torch import Tensor


def boxes(dataset: RecordDataset, index: int) -> Any:
    return dataset.annotations(index)["boxes"].as_subclass(Tensor).tolist()


def crowd(dataset: RecordDataset, index: int) -> Any:
    return dataset.annotations(index)["iscrowd"].tolist()


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)


def message(caught: pytest.ExceptionInfo[DataError], root: Path) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{root}/", "")


SKIP = 'Mend it, or set invalid = "skip": it will be dropped and reported.'

# ---------------------------------------------------------------------------------------------------------- Open Images

OPEN_HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)


def open_images(root: Path, *lines: str, names: str = "/m/1,Tree\n/m/2,Cat\n", **options: Any) -> OpenImagesDataset:
    for name in ("aa", "bb"):
        image(root / "images" / f"{name}.jpg")
    (root / "boxes.csv").write_text("\n".join([OPEN_HEADER, *lines]))
    (root / "names.csv").write_text(names)
    given = {"source": f"{root}/boxes.csv", "images": f"{root}/images", "descriptions": f"{root}/names.csv"}
    return OpenImagesDataset(**given, **options)


def test_open_images(tmp_path: Path) -> None:
    lines = [
        "bb,x,/m/2,1,0.25,0.5,0.1,0.2,0,0,0,0,0",
        "aa,x,/m/1,1,0,1,0,1,0,0,1,0,0",
        "bb,x,/m/1,1,0,0.5,0,0.5,0,0,-1,0,0",
    ]
    dataset = open_images(tmp_path, *lines)
    check_dataset(dataset)
    assert (dataset.classes, [*dataset.image_ids]) == (("Tree", "Cat"), ["bb", "aa"])
    assert boxes(dataset, 0) == [pytest.approx([10, 3, 20, 6]), [0, 0, 20, 15]]
    assert dataset.annotations(0)["labels"].tolist() == [1, 0]
    assert (crowd(dataset, 0), crowd(dataset, 1)) == ([0, 0], [1])
    assert dataset.report == []
    cats = open_images(tmp_path, *lines, classes=["Cat"], keep_empty=False)
    assert (cats.classes, [*cats.image_ids]) == (("Cat",), ["bb"])
    headed = open_images(tmp_path, *lines, names="LabelName,DisplayName\n/m/1,Tree\n/m/2,Cat\n")
    assert headed.classes == ("Tree", "Cat")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("aa,x,/m/3,1,0,1,0,1,0,0,0,0,0", '"/m/3" is none of the classes'),
        ("aa,x,/m/1,1,0,1,0,1", "fewer fields than columns"),
        ("aa,x,/m/1,1,0.5,0.5,0,1,0,0,0,0,0", "the box [20.0, 0.0, 20.0, 30.0] (left, top, right, bottom) has no area"),
        (
            "aa,x,/m/1,1,,1,0,1,0,0,0,0,0",
            "the box ['', '0', '1', '1'] (left, top, right, bottom) is not one of four numbers",
        ),
    ],
)
def test_a_flaw_of_open_images_is_named_or_reported(tmp_path: Path, line: str, what: str) -> None:
    lines = ["aa,x,/m/1,1,0,1,0,1,0,0,0,0,0", line]
    with pytest.raises(DataError) as caught:
        open_images(tmp_path, *lines)
    assert message(caught, tmp_path) == f"boxes.csv: line 3: {what}. {SKIP}"
    dataset = open_images(tmp_path, *lines, invalid="skip")
    assert [str(flaw).replace(f"{tmp_path}/", "") for flaw in dataset.report] == [f"boxes.csv: line 3: {what}; dropped"]
    assert len(boxes(dataset, 0)) == 1


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ("/m/1,Tree\n/m/2\n", "names.csv: line 2: not a code and a name. Is it the right file?"),
        ("/m/1,Tree\n/m/2,Tree\n", "names.csv: line 2: /m/2, Tree: a line before has one of them. Remove one."),
        ("/m/1,Tree\n/m/1,Cat\n", "names.csv: line 2: /m/1, Cat: a line before has one of them. Remove one."),
    ],
)
def test_what_is_wrong_with_the_names_of_open_images(tmp_path: Path, names: str, line: str) -> None:
    with pytest.raises(DataError) as caught:
        open_images(tmp_path, names=names)
    assert message(caught, tmp_path) == line


def test_the_names_of_open_images_are_read_again(tmp_path: Path) -> None:
    line = "bb,x,/m/2,1,0.25,0.5,0.1,0.2,0,0,0,0,0"
    assert open_images(tmp_path, line).classes == ("Tree", "Cat")
    assert open_images(tmp_path, line, names="/m/2,Dog\n").classes == ("Dog",)


# ----------------------------------------------------------------------------------------------------------- CrowdHuman


def person(fbox: list[float], tag: str = "person", **options: Any) -> dict[str, Any]:
    body = {"tag": tag, "fbox": fbox, "vbox": [1, 1, 5, 5], "hbox": [2, 2, 3, 3], "head_attr": {"ignore": 0, "occ": 1}}
    return {**body, "extra": {"box_id": 0, "occ": 1}, **options}


def crowd_human(root: Path, *lines: Any, **options: Any) -> CrowdHumanDataset:
    for name in ("1,a", "2,b"):
        image(root / f"{name}.jpg")
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (root / "val.odgt").write_text(text)
    return CrowdHumanDataset(source=f"{root}/val.odgt", images=str(root), **options)


PEOPLE = {
    "ID": "1,a",
    "gtboxes": [
        person([-4, 2, 20, 40]),
        person([5, 5, 10, 10], "mask", extra={"ignore": 1}, head_attr={}),
        person([5, 5, 10, 20], extra={"box_id": 2, "ignore": 1}),
        person([6, 6, 10, 20], head_attr={"ignore": 1}),
    ],
}


def test_crowd_human(tmp_path: Path) -> None:
    dataset = crowd_human(tmp_path, PEOPLE, "", {"ID": "2,b", "gtboxes": []})
    check_dataset(dataset)
    assert (dataset.classes, [*dataset.image_ids]) == (("person",), ["1,a", "2,b"])
    assert boxes(dataset, 0) == [[0, 2, 16, 30], [5, 5, 15, 15], [5, 5, 15, 25], [6, 6, 16, 26]]
    assert crowd(dataset, 0) == [0, 1, 1, 0]
    assert dataset.report == []
    visible, head = (crowd_human(tmp_path, PEOPLE, box=part) for part in ("visible", "head"))
    assert (visible.classes, boxes(visible, 0)) == (("person",), [[1, 1, 6, 6]] * 4)
    assert (head.classes, boxes(head, 0), crowd(head, 0)) == (("head",), [[2, 2, 5, 5]] * 4, [0, 1, 1, 1])


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"ID": "2,b"', "not CrowdHuman's JSON: Input data was truncated"),
        ({"gtboxes": []}, "not CrowdHuman's JSON: Object missing required field `ID`"),
        (
            {"ID": "2,b", "gtboxes": [person([1, 2, 3])]},
            "object 1: the box [1.0, 2.0, 3.0] (left, top, right, bottom) is",
        ),
        (
            {"ID": "2,b", "gtboxes": [{"tag": "person"}]},
            "object 1: the box [] (left, top, right, bottom) is not one of",
        ),
        (
            {"ID": "2,b", "gtboxes": [person([50, 2, 3, 4])]},
            "object 1: the box [50.0, 2.0, 53.0, 6.0] (left, top, right",
        ),
        ({"ID": "3,c", "gtboxes": []}, "there is no file 3,c.jpg"),
        (PEOPLE, "an image before it has the id '1,a' too"),
    ],
)
def test_a_flaw_of_crowd_human_is_named_or_reported(tmp_path: Path, line: Any, what: str) -> None:
    with pytest.raises(DataError) as caught:
        crowd_human(tmp_path, PEOPLE, line)
    assert message(caught, tmp_path).startswith(f"val.odgt: line 2: {what}")
    dataset = crowd_human(tmp_path, PEOPLE, line, invalid="skip")
    assert [*summarize(dataset.report).values()] == [1]
    assert len(boxes(dataset, 0)) == 4


def test_a_crowd_human_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.odgt: cannot be read: No such file or directory\. Check the path\.$"):
        CrowdHumanDataset(source=f"{tmp_path}/gone.odgt", images=str(tmp_path))
    (tmp_path / "folder.odgt").mkdir()
    with pytest.raises(DataError, match=r"folder\.odgt: cannot be read: Is a directory\. Check the path\.$"):
        CrowdHumanDataset(source=f"{tmp_path}/folder.odgt", images=str(tmp_path))


# ----------------------------------------------------------------------------------------------------------- WIDER FACE

WIDER = ["0--P/a.jpg", "2", "4 3 12 14 0 0 0 0 0 0 ", "1 2 5 6 2 0 0 1 0 0", "0--P/b.jpg", "0", "0 0 0 0 0 0 0 0 0 0"]


def wider_face(root: Path, *lines: str, **options: Any) -> WIDERFaceDataset:
    for name in ("a", "b", "c"):
        image(root / f"0--P/{name}.jpg")
    (root / "faces.txt").write_text("\n".join(lines))
    return WIDERFaceDataset(source=f"{root}/faces.txt", images=str(root), **options)


def test_wider_face(tmp_path: Path) -> None:
    dataset = wider_face(tmp_path, *WIDER, "0--P/c.jpg", "0")
    check_dataset(dataset)
    assert (dataset.classes, [*dataset.image_ids]) == (("face",), ["0--P/a", "0--P/b", "0--P/c"])
    assert [boxes(dataset, index) for index in range(3)] == [[[4, 3, 16, 17], [1, 2, 6, 8]], [], []]
    assert (crowd(dataset, 0), dataset.report) == ([0, 1], [])


@pytest.mark.parametrize(
    ("lines", "number", "what"),
    [
        (["0--P/c.jpg", "1", "5 5 0 3 0 0 0 0 0 0"], 10, "the box [5.0, 5.0, 5.0, 8.0] (left, top, right, bottom) has no area"),
        (["0--P/c.jpg", "1", "5 5 x"], 10, "the box ['5', '5', 'x'] (left, top, right, bottom) is not one of four numbers"),
        (["0--P/c.jpg", "2", "5 5 5 5 0 0 0 0 0 0"], 9, "2 faces are announced, 1 lines follow"),
        (["0--P/c.jpg", "1", "5 5 5 5", "6 6 6 6"], 9, "1 faces are announced, 2 lines follow"),
        (["0--P/c.jpg", "5 5 5 5"], 9, 'after the path comes "5 5 5 5", not the number of faces'),
        (["0--P/c.jpg"], 8, 'after the path comes "", not the number of faces'),
    ],
)  # fmt: skip
def test_a_flaw_of_wider_face_is_named_or_reported(tmp_path: Path, lines: list[str], number: int, what: str) -> None:
    with pytest.raises(DataError) as caught:
        wider_face(tmp_path, *WIDER, *lines)
    assert message(caught, tmp_path) == f"faces.txt: line {number}: {what}. {SKIP}"
    dataset = wider_face(tmp_path, *WIDER, *lines, invalid="skip")
    assert [str(flaw).replace(f"{tmp_path}/", "") for flaw in dataset.report] == [
        f"faces.txt: line {number}: {what}; dropped"
    ]
    assert len(boxes(dataset, 0)) == 2


def test_what_is_no_wider_face_text(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        wider_face(tmp_path, "hello", "0--P/a.jpg", "0")
    assert message(caught, tmp_path) == f'faces.txt: line 1: "hello" is not the path of an image. {SKIP}'
    (tmp_path / "faces.bin").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"faces\.bin: not a text in UTF-8\. Is it the right file\?$"):
        WIDERFaceDataset(source=f"{tmp_path}/faces.bin", images=str(tmp_path))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"folder: cannot be read: Is a directory\. Check the path\.$"):
        WIDERFaceDataset(source=f"{tmp_path}/folder", images=str(tmp_path))


# ----------------------------------------------------------------------------------------------------------- Cityscapes


def area(label: str, *points: float, **options: Any) -> dict[str, Any]:
    return {"label": label, "polygon": [*zip(points[::2], points[1::2], strict=True)], **options}


CAR = area("car", 1, 2, 11, 2, 11, 12)


def cityscapes(root: Path, *areas: dict[str, Any], kind: str = "Fine", **options: Any) -> CityscapesDataset:
    name = "ulm/ulm_000000_000019"
    image(root / f"images/{name}_leftImg8bit.png")
    path = root / f"gt{kind}/{name}_gt{kind}_polygons.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imgHeight": 30, "imgWidth": 40, "objects": areas}))
    (path.parent / "ulm_000000_000019_other.json").write_text("{")
    return CityscapesDataset(source=f"{root}/gt{kind}", images=f"{root}/images", **options)


@pytest.mark.parametrize("kind", ["Fine", "Coarse"])
def test_cityscapes(tmp_path: Path, kind: str) -> None:
    areas = [area("road", 0, 0, 40, 0, 40, 30), CAR, area("persongroup", 5, 5, 9, 5, 9, 9), area("license plate", 1, 1)]
    deleted, rider = {**CAR, "deleted": 1}, area("rider", 0, 0, 5, 0, 5, 9.5)
    dataset = cityscapes(tmp_path, *areas, deleted, area("polegroup", 1, 2), rider, kind=kind, segmentation="polygons")
    check_dataset(dataset)
    assert (dataset.classes, [*dataset.image_ids]) == (CLASSES, ["ulm/ulm_000000_000019"])
    assert boxes(dataset, 0) == [[1, 2, 11, 12], [5, 5, 9, 9], [0, 0, 5, 9.5]]
    target = dataset[0][1]
    assert [CLASSES[label] for label in target["labels"]] == ["car", "person", "rider"]
    assert (crowd(dataset, 0), target["owner"].tolist(), dataset.report) == ([0, 1, 0], [0, 2], [])


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (area("carr", 1, 2, 11, 2, 11, 12), '"carr" is none of the classes (Did you mean "car"?)'),
        (area("car"), "the box [nan, nan, nan, nan] (left, top, right, bottom) is not finite"),
        (area("bus", 50, 2, 60, 2, 60, 9), "the box [50.0, 2.0, 60.0, 9.0] (left, top, right, bottom) is not inside the image of 40 x 30"),
    ],
)  # fmt: skip
def test_a_flaw_of_cityscapes_is_named_or_reported(tmp_path: Path, bad: dict[str, Any], what: str) -> None:
    where = "gtFine/ulm/ulm_000000_000019_gtFine_polygons.json: object 3"
    with pytest.raises(DataError) as caught:
        cityscapes(tmp_path, CAR, area("sky"), bad)
    assert message(caught, tmp_path) == f"{where}: {what}. {SKIP}"
    dataset = cityscapes(tmp_path, CAR, area("sky"), bad, invalid="skip")
    assert [str(flaw).replace(f"{tmp_path}/", "") for flaw in dataset.report] == [f"{where}: {what}; dropped"]
    assert boxes(dataset, 0) == [[1, 2, 11, 12]]


def test_a_cityscapes_file_that_is_none_is_named(tmp_path: Path) -> None:
    cityscapes(tmp_path, CAR)
    path = next(tmp_path.rglob("*_gtFine_polygons.json"))
    path.write_text('{"imgHeight": 30, "imgWidth": "x"}')
    with pytest.raises(
        DataError, match=r"polygons\.json: not Cityscapes' JSON: Expected `int`, got `str` - at `\$\.imgW"
    ):
        CityscapesDataset(source=f"{tmp_path}/gtFine", images=f"{tmp_path}/images")
