from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detcore.errors import DataError
from detcore.interfaces import Dataset
from detcore.polygons import PolygonPoints
from detcore.report import summarize
from detcore_coco.dataset import CocoDataset
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors

DATA = Path(os.environ.get("DETCORE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))
needs_coco128 = pytest.mark.skipif(not (DATA / "coco128").is_dir(), reason=f"no COCO sample at {DATA / 'coco128'}")


def content():
    """Two images, three sound annotations, categories with gapped ids that are not in order."""
    return {
        "images": [
            {"id": 50, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 10, 20], "area": 150.5, "iscrowd": 0},
            {"id": 2, "image_id": 50, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 3, "bbox": [5.5, 6.5, 4, 3], "area": 12},
        ],
        "categories": [{"id": 90, "name": "person"}, {"id": 3, "name": "car"}, {"id": 17, "name": "cat"}],
    }


class Case:
    """A COCO folder on disk that a test may spoil."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "instances.json"
        self.images = folder / "images"
        self.images.mkdir()
        for name in ("a.png", "b.png"):
            Image.new("RGB", (40, 30), (255, 128, 0)).save(self.images / name)
        self.content = content()

    def dataset(self, **options) -> CocoDataset:
        self.file.write_text(json.dumps(self.content))
        return self.open(**options)

    def open(self, **options) -> CocoDataset:
        return CocoDataset(**{"annotations": str(self.file), "images": str(self.images), **options})

    def error(self, **options) -> str:
        with pytest.raises(DataError) as caught:
            self.dataset(**options)
        return self.plain(caught.value)

    def plain(self, error: DataError) -> str:
        assert "\n" not in str(error).partition("\nclass ")[0]  # a table of classes may follow
        return str(error).replace(str(self.file), "FILE").replace(str(self.images), "IMAGES")


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def test_a_sample_is_what_the_file_says(case):
    dataset = case.dataset()
    image, target = dataset[1]
    assert isinstance(dataset, Dataset)
    assert dataset.classes == ("person", "car", "cat")
    assert dataset.category_ids == (90, 3, 17)
    assert dataset.image_ids.tolist() == [50, 7]
    assert isinstance(image, tv_tensors.Image)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 30, 40)
    assert image[:, 0, 0].tolist() == [255, 128, 0]
    assert target["boxes"].tolist() == [[1, 2, 11, 22], [5.5, 6.5, 9.5, 9.5]]
    assert target["boxes"].canvas_size == (30, 40)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [0, 1]
    assert target["image_id"] == 7
    assert type(target["image_id"]) is int
    assert target["area"].tolist() == [150.5, 12]
    assert dataset[0][1]["iscrowd"].tolist() == [1]
    assert dataset[0][1]["area"].tolist() == [1200]
    assert dataset.report == []


def test_an_image_without_annotations_has_empty_tensors(case):
    case.content["annotations"] = case.content["annotations"][:1]
    target = case.dataset()[0][1]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].dtype == torch.int64


def test_images_without_objects_are_left_out_on_request(case):
    assert case.dataset(keep_empty=False).image_ids.tolist() == [7]  # image 50 has only a crowd
    case.content["annotations"] = []
    message = case.error(keep_empty=False)
    assert message == "FILE: no image is left of 2. Set keep_empty = true to have images without objects."


def test_classes_choose_and_order(case):
    dataset = case.dataset(classes=["cat", "car"])
    assert dataset.classes == ("cat", "car")
    assert dataset.category_ids == (17, 3)
    assert dataset[1][1]["labels"].tolist() == [1]
    assert dataset[1][1]["area"].tolist() == [12]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["persn"], 'FILE: no category is called "persn", which the config lists in classes. Did you mean "person"?'),
        (["zebra"], 'FILE: no category is called "zebra", which the config lists in classes. It has person, car, cat.'),
        (["car", "car"], "FILE: classes = ['car', 'car']. Name at least one class, and each once."),
        ([], "FILE: classes = []. Name at least one class, and each once."),
    ],
)
def test_classes_that_the_file_does_not_have_are_an_error(case, classes, message):
    line, *table = case.error(classes=classes).splitlines()
    assert line == message
    absent = [row.split() for row in table if row.startswith(("persn", "zebra"))]
    assert absent == [[name, "0", "-"] for name in classes if name not in ("person", "car", "cat")]


def test_the_classes_of_config_and_file_are_told_in_a_table(case):
    assert case.error(classes=["cat", "persn"]).splitlines()[1:] == [
        "class   config  annotations",
        "cat     0       id 17",
        "persn   1       -",
        "person  -       id 90",
        "car     -       id 3",
    ]


def test_categories_that_objects_have_are_told_whether_they_are_chosen_or_not(case):
    every = {case.content["categories"][label]["name"] for label in range(3)}
    assert {*case.dataset().annotated_classes} <= every
    assert case.dataset(classes=["cat"]).annotated_classes == case.dataset().annotated_classes
    case.content["categories"].append({"id": 99, "name": "never"})
    assert "never" not in case.dataset().annotated_classes


def change(index, **values):
    return lambda content: content["annotations"][index].update(values)


ANNOTATION_FLAWS = {
    "unknown image": (change(2, image_id=8), "there is no image 8", "dropped"),
    "unknown category": (change(2, category_id=4), "there is no category 4", "dropped"),
    "box not of four numbers": (
        change(2, bbox=[1.0, 2.0, 3.0]),
        "the box [1.0, 2.0, 3.0] (x, y, width, height) is not one of four numbers",
        "dropped",
    ),
    "box not finite": (
        change(2, bbox=[1, float("nan"), 3, 4]),
        "the box [1.0, nan, 3.0, 4.0] (x, y, width, height) is not finite",
        "dropped",
    ),
    "box without area": (
        change(2, bbox=[1, 2, 0, 4]),
        "the box [1.0, 2.0, 0.0, 4.0] (x, y, width, height) has no area",
        "dropped",
    ),
    "box outside the image": (
        change(2, bbox=[45, 2, 3, 4]),
        "the box [45.0, 2.0, 3.0, 4.0] (x, y, width, height) is not inside the image of 40 x 30",
        "dropped",
    ),
    "box partly outside the image": (
        change(2, bbox=[35, 2, 10, 4]),
        "the box [35.0, 2.0, 10.0, 4.0] (x, y, width, height) is not inside the image of 40 x 30",
        "clipped",
    ),
}


@pytest.mark.parametrize("kind", ANNOTATION_FLAWS)
def test_a_flaw_of_an_annotation_is_named_or_skipped_and_reported(case, kind):
    spoil, what, action = ANNOTATION_FLAWS[kind]
    spoil(case.content)
    image_id = case.content["annotations"][2]["image_id"]
    where = f"FILE: annotation 3 (image {image_id})"
    mend = f'Mend it, or set invalid = "skip": it will be {action} and reported.'
    assert case.error() == f"{where}: {what}. {mend}"
    dataset = case.dataset(invalid="skip")
    flaw = dataset.report[0]
    assert len(dataset.report) == 1
    assert flaw.where.replace(str(case.file), "FILE") == where
    assert (flaw.what, flaw.kind, flaw.action) == (what, kind, action)
    boxes = dataset[1][1]["boxes"].tolist()
    assert boxes == ([[1, 2, 11, 22], [35, 2, 40, 6]] if action == "clipped" else [[1, 2, 11, 22]])


def test_what_is_skipped_is_counted_in_the_log(case, caplog):
    for annotation in case.content["annotations"][:2]:
        annotation["bbox"] = [1, 2, 0, 4]
    dataset = case.dataset(invalid="skip")
    assert [record.getMessage() for record in caplog.records] == [f"{case.file}: 2 x box without area: dropped"]
    what = "the box [1.0, 2.0, 0.0, 4.0] (x, y, width, height) has no area"
    assert str(dataset.report[0]) == f"{case.file}: annotation 1 (image 7): {what}; dropped"


def test_infinity_too_is_not_finite(case):
    case.content["annotations"][0]["bbox"] = [0, 0, float("inf"), 3]
    assert "[0.0, 0.0, inf, 3.0] (x, y, width, height) is not finite" in case.error()


def test_boxes_that_stand_out_by_rounding_are_sound(case):
    case.content["annotations"][2]["bbox"] = [-0.4, 2, 40.9, 4]
    assert case.dataset()[1][1]["boxes"][1].tolist() == pytest.approx([-0.4, 2, 40.5, 6])


def test_a_failure_says_how_many_there_are(case):
    for annotation in case.content["annotations"]:
        annotation["bbox"] = [1, 2, -3, 4]
    assert case.error().endswith('set invalid = "skip": it and 2 more like it will be dropped and reported.')


def test_an_image_whose_annotations_are_all_dropped_stays_and_is_empty(case):
    for annotation in case.content["annotations"]:
        annotation["bbox"] = [1, 2, 0, 4]
    dataset = case.dataset(invalid="skip")
    assert len(dataset) == 2
    assert summarize(dataset.report) == {"box without area: dropped": 3}


def spoil_id(case):
    case.content["images"][1]["id"] = 50


def spoil_size(case):
    case.content["images"][1]["width"] = 0


def spoil_file(case):
    (case.images / "a.png").unlink()


IMAGE_FLAWS = {
    "image id used twice": (spoil_id, "image 50 (a.png)", "another image has the same id"),
    "image without size": (spoil_size, "image 7 (a.png)", "width 0, height 30"),
    "missing image file": (spoil_file, "image 7 (a.png)", "there is no file IMAGES/a.png"),
}


@pytest.mark.parametrize("kind", IMAGE_FLAWS)
def test_a_flaw_of_an_image_is_named_or_the_image_skipped_and_reported(case, kind):
    spoil, where, what = IMAGE_FLAWS[kind]
    case.content["annotations"] = case.content["annotations"][1:2]
    spoil(case)
    mend = 'Mend it, or set invalid = "skip": it will be dropped and reported.'
    assert case.error() == f"FILE: {where}: {what}. {mend}"
    dataset = case.dataset(invalid="skip")
    assert dataset.image_ids.tolist() == [50]
    assert summarize(dataset.report) == {f"{kind}: dropped": 1}
    assert len(dataset[0][1]["boxes"]) == 1


def test_annotations_of_a_dropped_image_go_with_it(case):
    spoil_file(case)
    dataset = case.dataset(invalid="skip")
    assert len(dataset.report) == 1
    assert len(dataset) == 1
    assert dataset[0][1]["labels"].tolist() == [1]


def test_all_images_dropped_is_an_error(case):
    for file in case.images.iterdir():
        file.unlink()
    assert case.error(invalid="skip") == "FILE: no image is left of 2. All had flaws: see the log."


def test_a_missing_folder_is_an_error(case):
    case.content["annotations"] = []
    assert (
        case.error(images=str(case.images / "val")) == "IMAGES/val: there is no such folder of images. Check the path."
    )


def test_images_in_subfolders_are_found(case):
    (case.images / "sub").mkdir()
    (case.images / "a.png").rename(case.images / "sub" / "a.png")
    case.content["images"][1]["file_name"] = "sub/a.png"
    assert case.dataset()[1][0].shape == (3, 30, 40)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"images": [],\n  "annotations": [}',
            "FILE: line 2, column 19: not JSON: Expecting value. Is the file complete?",
        ),
        ("", "FILE: line 1, column 1: not JSON: Expecting value. Is the file complete?"),
        (
            '{"images": [], "annotations": []}',
            "FILE: Object missing required field `categories`. COCO's format has images, annotations and categories.",
        ),
        (
            '{"images": [], "categories": [], "annotations": [{"id": 1, "image_id": 2, "bbox": [1, 2, 3, 4]}]}',
            "FILE: annotations[0]: Object missing required field `category_id`. "
            "COCO's format has images, annotations and categories.",
        ),
        (
            '{"images": [{"id": "x", "file_name": "a", "width": 1, "height": 1}], "categories": [], "annotations": []}',
            "FILE: images[0].id: Expected `int`, got `str`. COCO's format has images, annotations and categories.",
        ),
        (
            '{"images": [], "categories": [], "annotations": []}',
            "FILE: categories: there are none. Add id and name of each class.",
        ),
        (
            '{"images": [], "categories": [{"id": 1, "name": "a"}], "annotations": []}',
            "FILE: images: the file lists none. Is it the right file?",
        ),
        (
            '{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "annotations": []}',
            'FILE: categories: two have the id "1". Give each its own id.',
        ),
        (
            '{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "annotations": []}',
            'FILE: categories: two have the name "a". Give each its own name.',
        ),
    ],
)
def test_what_is_not_cocos_is_named_with_its_place(case, text, message):
    case.file.write_text(text)
    with pytest.raises(DataError) as caught:
        case.open()
    assert case.plain(caught.value) == message


def test_a_file_that_is_no_text_is_named(case):
    case.file.write_bytes(b'{"images": [{"file_name": "\xff"}]}')
    with pytest.raises(DataError) as caught:
        case.open()
    assert case.plain(caught.value) == "FILE: byte 27: not JSON: not a text in UTF-8. Is it the right file?"


def test_a_missing_annotation_file_is_an_error(case):
    with pytest.raises(DataError) as caught:
        case.open()
    assert case.plain(caught.value) == "FILE: cannot be read: No such file or directory. Check the path."


def test_a_broken_image_is_an_error_or_black_and_reported(case):
    path = case.images / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        case.dataset()[1]
    assert case.plain(caught.value) == "IMAGES/a.png: not a sound image: image file is truncated. Replace the file."
    dataset = case.dataset(invalid="skip")
    image, target = dataset[1]
    assert image.shape == (3, 30, 40)
    assert image.max() == 0
    assert target["boxes"].shape == (0, 4)
    assert target["dropped"] == 2
    assert summarize(dataset.report) == {"unreadable image: blackened": 1}


def test_an_image_that_vanishes_later_is_an_error(case):
    dataset = case.dataset()
    spoil_file(case)
    with pytest.raises(DataError, match=r"a\.png: cannot be read: No such file or directory\. Check the file\.$"):
        dataset[1]


def test_an_image_of_another_size_is_an_error(case):
    Image.new("RGB", (41, 30)).save(case.images / "a.png")
    with pytest.raises(DataError) as caught:
        case.dataset()[1]
    sizes = "the image is 41 x 30 (width x height), its annotations are for 40 x 30"
    assert case.plain(caught.value) == f"IMAGES/a.png: {sizes}. Mend either of them."


def test_exif_orientation_is_followed_on_request_only(case):
    turned = Image.new("RGB", (30, 40))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(case.images / "a.png", "JPEG", exif=exif)
    with pytest.raises(DataError, match=r"Is it turned by EXIF\? Set exif = true\.$"):
        case.dataset()[1]
    assert case.dataset(exif=True)[1][0].shape == (3, 30, 40)


SQUARE = [[2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]]


def outline(case, first=SQUARE, crowd=None, third=SQUARE):
    runs = {"size": [30, 40], "counts": [0, 600, 600]}
    for annotation, segmentation in zip(case.content["annotations"], (first, crowd or runs, third), strict=True):
        annotation["segmentation"] = segmentation


def test_polygons_are_flat_points_with_their_owners(case):
    outline(case, third=[[5.0, 6, 9, 6, 9, 9], [1.0, 1, 2, 1, 2, 2, 1, 2]])
    dataset = case.dataset(segmentation="polygons")
    target = dataset[1][1]
    assert isinstance(target["polygons"], PolygonPoints)
    assert target["polygons"].shape == (11, 2)
    assert target["polygons"][:2].tolist() == [[2, 3], [12, 3]]
    assert target["offsets"].tolist() == [0, 4, 7, 11]
    assert target["owner"].tolist() == [0, 1, 1]
    crowd = dataset[0][1]
    assert crowd["polygons"].shape == (0, 2)
    assert crowd["offsets"].tolist() == [0]


def test_masks_are_what_coco_rasterises(case):
    outline(case)
    dataset = case.dataset(segmentation="masks")
    square, crowd = dataset[1][1]["masks"], dataset[0][1]["masks"]
    assert isinstance(square, tv_tensors.Mask)
    assert square.shape == (2, 30, 40)
    assert square[0].sum() == 100
    assert square[0, 3:13, 2:12].min() == 1
    assert crowd.shape == (1, 30, 40)
    assert crowd[0, :, :20].min() == 1
    assert crowd[0, :, 20:].max() == 0


@pytest.mark.parametrize(
    ("segmentation", "what"),
    [
        ([], "there is no outline"),
        ([[1.0, 2, 3, 4]], "an outline has 4 numbers, not x and y of three points or more"),
        ([[1.0, 2, 3, 4, 5, 6, 7]], "an outline has 7 numbers, not x and y of three points or more"),
        ([[1.0, 2, 3, 4, 5, float("nan")]], "an outline has a number that is not finite"),
        (
            {"size": [30, 40], "counts": [0, 600, 600]},
            'the object has a mask and no outline (segmentation = "masks" reads both)',
        ),
    ],
)
def test_an_unusable_outline_is_named_or_dropped(case, segmentation, what):
    outline(case, third=segmentation)
    error = case.error(segmentation="polygons")
    assert error.startswith(f"FILE: annotation 3 (image 7): {what}. Mend it, or set")
    dataset = case.dataset(segmentation="polygons", invalid="skip")
    assert summarize(dataset.report) == {"unusable outline: dropped": 1}
    assert len(dataset[1][1]["boxes"]) == 1
    assert len(case.dataset()[1][1]["boxes"]) == 2


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (
            {"size": [40, 30], "counts": [0, 1200]},
            "the mask is for an image of (height, width) (40, 30), this one has (30, 40)",
        ),
        ({"size": [30, 40], "counts": [0, 1000]}, "the runs of the mask add up to 1000 pixels, not to 1200"),
        ({"size": [30, 40], "counts": ""}, "the mask has no runs"),
    ],
)
def test_an_unusable_mask_is_named(case, mask, what):
    outline(case, third=mask)
    assert case.error(segmentation="masks").startswith(f"FILE: annotation 3 (image 7): {what}. Mend it, or set")


def test_the_dataset_holds_arrays_and_pickles(case):
    outline(case)
    dataset = case.dataset(segmentation="polygons")
    lists = [name for name, value in vars(dataset).items() if isinstance(value, list) and value]
    assert lists == []
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[1][1]["polygons"], dataset[1][1]["polygons"])
    loaded = [*DataLoader(dataset, batch_size=None, num_workers=1)]
    assert [target["image_id"] for _, target in loaded] == [50, 7]


def test_past_the_end_is_an_index_error(case):
    with pytest.raises(IndexError):
        case.dataset()[2]


def test_coco_rows_are_the_files_to_the_last_bit(case):
    case.content["annotations"][0]["bbox"] = [0.1, 0.2, 0.30000000000000004, 20.7]
    rows = case.dataset().coco(1)
    assert rows[0] == {**case.content["annotations"][0], "iscrowd": 0}


@needs_coco128
@pytest.mark.parametrize(("split", "objects"), [("train", 746), ("val", 712)])
def test_coco128_is_read(split, objects):
    folder = DATA / "coco128"
    file = folder / f"annotations/instances_{split}2017.json"
    dataset = CocoDataset(annotations=str(file), images=str(folder / f"images/{split}2017"), segmentation="polygons")
    raw = json.loads(file.read_text())
    assert len(dataset) == 100
    assert len(dataset.classes) == 80
    assert dataset.category_ids[79] == 90
    assert dataset.report == []
    assert sum(len(dataset.annotations(index)["labels"]) for index in range(100)) == objects
    image, target = dataset[3]
    mine = [each for each in raw["annotations"] if each["image_id"] == target["image_id"]]
    corners = np.array([[x, y, x + w, y + h] for x, y, w, h in (each["bbox"] for each in mine)])
    assert np.allclose(target["boxes"].numpy(), corners)
    assert [dataset.category_ids[label] for label in target["labels"]] == [each["category_id"] for each in mine]
    assert image.shape[1:] == target["boxes"].canvas_size
    assert len(target["polygons"]) == sum(len(part) // 2 for each in mine for part in each["segmentation"])
