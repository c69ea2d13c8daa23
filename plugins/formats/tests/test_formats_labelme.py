from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detcore.errors import DataError
from detcore.report import summarize
from detcore.testing import check_dataset
from detcore_formats.labelme import LabelmeDataset
from PIL import Image
from torch import Tensor


def shape(kind: str | None = "polygon", *points: list[float], label: str = "cat", **options: Any) -> dict[str, Any]:
    return {"label": label, "points": [*points], "shape_type": kind, "flags": {}, **options}


TRIANGLE = shape("polygon", [1, 2], [9, 2], [9, 12])


class Case:
    """A folder of labelme's, beside whose images are JSON files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("a", TRIANGLE)

    def write(self, name: str, *shapes: dict[str, Any], **changes: Any) -> None:
        path = self.root / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path.with_suffix(".png"))
        sheet = {"version": "5.4.1", "flags": {}, "shapes": [*shapes], "imagePath": f"{path.stem}.png"}
        path.write_text(json.dumps({**sheet, "imageData": "aGVsbG8=", "imageHeight": 30, "imageWidth": 40, **changes}))

    def open(self, **options: Any) -> LabelmeDataset:
        return LabelmeDataset(**{"source": str(self.root), **options})

    def error(self, **options: Any) -> str:
        with pytest.raises(DataError) as caught:
            self.open(**options)
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(f"{self.root}/", "")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def boxes(dataset: LabelmeDataset, index: int) -> Any:
    return dataset.annotations(index)["boxes"].as_subclass(Tensor).tolist()


def test_a_sample_is_what_the_file_says(case: Case) -> None:
    case.write("sub/b", shape("rectangle", [20, 25], [10, 5], label="dog"), TRIANGLE, imageData=None)
    case.write("sub/c", imageHeight=None, imageWidth=None)
    dataset = case.open(segmentation="polygons")
    check_dataset(dataset)
    assert (dataset.classes, [*dataset.image_ids]) == (("cat", "dog"), ["a", "sub/b", "sub/c"])
    assert boxes(dataset, 1) == [[10, 5, 20, 25], [1, 2, 9, 12]]
    target = dataset[1][1]
    assert target["labels"].tolist() == [1, 0]
    assert target["polygons"].tolist() == [[10, 5], [20, 5], [20, 25], [10, 25], [1, 2], [9, 2], [9, 12]]
    assert (target["offsets"].tolist(), target["owner"].tolist()) == ([0, 4, 7], [0, 1])
    assert dataset.size(2) == (30, 40)
    assert dataset.report == []


def test_circles_and_masks_have_boxes(case: Case) -> None:
    mask = shape("mask", [5, 6], [7, 9], mask="iVBO")
    case.write("a", shape("circle", [15, 15], [18, 19]), mask, shape(None, [1, 2], [9, 2], [9, 12]))
    dataset = case.open()
    assert boxes(dataset, 0) == [[10, 10, 20, 20], [5, 6, 8, 10], [1, 2, 9, 12]]
    case.write("a", shape("circle", [15, 15], [18, 19]))
    points = case.open(segmentation="polygons")[0][1]["polygons"].as_subclass(Tensor)
    assert ((points - 15).norm(dim=1) - 5).abs().max() < 1e-5
    assert case.open(segmentation="polygons")[0][1]["boxes"].tolist() == [[10, 10, 20, 20]]


def test_shapes_of_a_group_are_one_object(case: Case) -> None:
    square = shape("polygon", [20, 20], [30, 20], [30, 28], group_id=1)
    case.write("a", {**TRIANGLE, "group_id": 1}, TRIANGLE, square, {**square, "label": "dog"})
    dataset = case.open(segmentation="polygons")
    assert boxes(dataset, 0) == [[1, 2, 30, 28], [1, 2, 9, 12], [20, 20, 30, 28]]
    assert dataset[0][1]["labels"].tolist() == [0, 0, 1]
    assert dataset[0][1]["owner"].tolist() == [0, 0, 1, 2]


def test_images_may_be_elsewhere(case: Case, tmp_path: Path) -> None:
    case.write("json/b", TRIANGLE, imagePath="..\\photos\\b.png")
    (case.root / "a.json").unlink()
    (case.root / "photos").mkdir()
    (case.root / "json/b.png").rename(case.root / "photos/b.png")
    assert case.open()[0][0].shape == (3, 30, 40)
    case.write("json/b", TRIANGLE, imagePath="b.png")
    assert case.open(images=f"{case.root}/photos")[0][0].shape == (3, 30, 40)


FLAWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "line": (shape("line", [1, 2], [3, 4]), "shape without area", "a line has no area"),
    "point": (shape("point", [1, 2]), "shape without area", "a point has no area"),
    "two points": (shape("polygon", [1, 2], [3, 4]), "shape without area", "a polygon of 2 points, not 3 or more"),
    "one corner": (shape("rectangle", [1, 2]), "shape without area", "a rectangle of 1 points, not 2 or more"),
    "no edge": (shape("circle", [1, 2]), "shape without area", "a circle of 1 points, not 2 or more"),
    "half a mask": (shape("mask", [1, 2]), "shape without area", "a mask of 1 points, not 2 or more"),
    "no label": (shape("rectangle", [1, 2], [3, 4], label=""), "object without name", "it has no name"),
    "no area": (
        shape("rectangle", [1, 2], [1, 4]),
        "box without area",
        "the box [1.0, 2.0, 1.0, 4.0] (left, top, right, bottom) has no area",
    ),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_of_a_shape_is_named_or_skipped_and_reported(case: Case, name: str) -> None:
    bad, kind, what = FLAWS[name]
    case.write("a", TRIANGLE, TRIANGLE, bad)
    assert case.error() == (
        f'a.json: shape 3: {what}. Mend it, or set invalid = "skip": it will be dropped and reported.'
    )
    dataset = case.open(invalid="skip")
    assert summarize(dataset.report) == {f"{kind}: dropped": 1}
    assert boxes(dataset, 0) == [[1, 2, 9, 12]] * 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"shapes": [', "not labelme's JSON: Input data was truncated"),
        ('{"shapes": []}', "not labelme's JSON: Object missing required field `imagePath`"),
        (
            '{"shapes": [{"label": 3, "points": []}], "imagePath": "a.png"}',
            "not labelme's JSON: Expected `str`, got `int` - at `$.shapes[0].label`",
        ),
        ("\xff", "not labelme's JSON: JSON is malformed"),
    ],
)
def test_a_file_that_is_none_is_named_or_its_image_dropped(case: Case, text: str, what: str) -> None:
    case.write("b", TRIANGLE)
    (case.root / "a.json").write_bytes(text.encode("latin-1"))
    assert case.error().startswith(f"a.json: {what}")
    dataset = case.open(invalid="skip")
    assert [*dataset.image_ids] == ["b"]
    assert summarize(dataset.report) == {"unreadable file: dropped": 1}


def test_an_image_of_another_size_is_an_error(case: Case) -> None:
    case.write("a", TRIANGLE, imageWidth=50)
    with pytest.raises(DataError, match=r"the image is 40 x 30 .*its annotations are for 50 x 30"):
        case.open()[0]


def test_an_edited_file_is_read_again(case: Case) -> None:
    assert len(boxes(case.open(), 0)) == 1
    case.write("a", TRIANGLE, TRIANGLE)
    assert len(boxes(case.open(), 0)) == 2
    case.write("b", TRIANGLE)
    assert len(case.open()) == 2


def test_no_file_is_an_error(case: Case) -> None:
    (case.root / "a.json").unlink()
    assert case.error().endswith(": lists no image. Is it the right one?")
    assert case.error(source=f"{case.root}/gone") == "gone: cannot be read: No such file or directory. Check the path."
