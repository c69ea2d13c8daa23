from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detcore.errors import DataError
from detcore.interfaces import Dataset
from detcore.report import summarize
from detcore_voc.dataset import VOCDataset
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors

DATA = Path(os.environ.get("DETCORE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))
needs_bccd = pytest.mark.skipif(not (DATA / "bccd").is_dir(), reason=f"no BCCD at {DATA / 'bccd'}")


def xml_of(*objects: str, size="<size><width>40</width><height>30</height></size>", filename="") -> str:
    return f"<annotation>{filename and f'<filename>{filename}</filename>'}{size}{''.join(objects)}</annotation>"


def thing(name="cat", box=(2, 3, 11, 22), difficult="<difficult>0</difficult>") -> str:
    corners = "".join(f"<{tag}>{n}</{tag}>" for tag, n in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False))
    return f"<object><name>{name}</name>{difficult}<bndbox>{corners}</bndbox></object>"


HARD = "<difficult>1</difficult>"


class Case:
    """A VOC folder on disk that a test may spoil: b has two cats, a has a dog and, difficult, a cat."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)
        self.split("b", "a")
        self.write("a", thing("dog"), thing("cat", (1, 1, 40, 30), HARD))
        self.write("b", thing(), thing(box=(20, 3, 29, 22)))
        for name in ("a", "b"):
            Image.new("RGB", (40, 30), (255, 128, 0)).save(root / "JPEGImages" / f"{name}.png")

    def split(self, *names: str) -> None:
        (self.root / "ImageSets/Main/train.txt").write_text("\n".join(names) + "\n\n")

    def write(self, name: str, *objects: str, **options: str) -> None:
        self.xml(name).write_text(xml_of(*objects, **options))

    def xml(self, name: str) -> Path:
        return self.root / "Annotations" / f"{name}.xml"

    def open(self, **options) -> VOCDataset:
        return VOCDataset(**{"root": str(self.root), "split": "ImageSets/Main/train.txt", **options})

    def error(self, **options) -> str:
        with pytest.raises(DataError) as caught:
            self.open(**options)
        return self.plain(caught.value)

    def plain(self, text: object) -> str:
        assert "\n" not in str(text)
        return str(text).replace(f"{self.root}/", "")


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def boxes(dataset, index):
    return dataset.annotations(index)["boxes"].as_subclass(Tensor).tolist()


def test_a_sample_is_what_the_file_says(case):
    dataset = case.open()
    assert isinstance(dataset, Dataset)
    assert dataset.classes == ("cat", "dog")
    assert dataset.image_ids.tolist() == ["b", "a"]
    image, target = dataset[1]
    assert isinstance(image, tv_tensors.Image)
    assert image.shape == (3, 30, 40)
    assert image[:, 0, 0].tolist() == [255, 128, 0]
    assert {*target} == {"boxes", "labels", "image_id", "iscrowd", "area"}
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].format == tv_tensors.BoundingBoxFormat.XYXY
    assert target["boxes"].canvas_size == dataset.size(1) == (30, 40)
    assert target["boxes"].tolist() == [[1, 2, 11, 22], [0, 0, 40, 30]]  # pixels 2 to 11 are ten of them
    assert target["labels"].tolist() == [1, 0]
    assert target["image_id"] == "a"
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["area"].tolist() == [200, 1200]
    assert dataset.report == []


@pytest.mark.parametrize(
    ("coordinates", "first"),
    [("pixels", [1, 2, 11, 22]), ("edges", [2, 3, 11, 22]), ("mmdetection", [1, 2, 10, 21])],
)
def test_what_numbers_mean_is_an_option(case, coordinates, first):
    assert boxes(case.open(coordinates=coordinates), 1)[0] == first


def test_difficult_objects_are_ignored_or_kept(case):
    assert case.open().annotations(1)["iscrowd"].tolist() == [0, 1]
    assert case.open(difficult="keep").annotations(1)["iscrowd"].tolist() == [0, 0]
    case.write("a", thing("dog", difficult=HARD))
    assert case.open(keep_empty=False).image_ids.tolist() == ["b"]
    assert case.open(keep_empty=False, difficult="keep").image_ids.tolist() == ["b", "a"]


def test_without_a_split_all_files_are_taken_sorted(case):
    (case.root / "Annotations/sub").mkdir()
    (case.root / "JPEGImages/sub").mkdir()
    case.write("sub/c", thing())
    Image.new("L", (40, 30)).save(case.root / "JPEGImages/sub/c.JPG")
    dataset = case.open(split=None)
    assert dataset.image_ids.tolist() == ["a", "b", "sub/c"]
    assert dataset[2][0].shape == (3, 30, 40)


def test_folders_are_options(case):
    (case.root / "Annotations").rename(case.root / "xml")
    (case.root / "JPEGImages").rename(case.root / "png")
    assert len(case.open(annotations="xml", images="png")) == 2


def test_classes_of_all_files_are_found_whatever_the_split(case):
    case.split("b")
    assert case.open().classes == ("cat", "dog")


def test_given_classes_order_labels(case):
    dataset = case.open(classes=["dog", "bird", "cat"])
    assert dataset.classes == ("dog", "bird", "cat")
    assert dataset.annotations(1)["labels"].tolist() == [0, 2]


def test_an_image_without_objects_has_empty_tensors(case):
    case.write("a")
    target = case.open()[1][1]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].dtype == torch.int64
    assert case.open(keep_empty=False).image_ids.tolist() == ["b"]
    case.write("b")
    message = case.error(keep_empty=False, classes=["cat"])
    fix = "Set keep_empty = true to have images without objects."
    assert message == f"ImageSets/Main/train.txt: no image is left of 2. {fix}"


@pytest.mark.parametrize("classes", [[], ["cat", "cat"]])
def test_classes_are_named_once(case, classes):
    assert case.error(classes=classes) == f"Annotations: classes = {classes}. Name at least one class, and each once."


# -------------------------------------------------------------------------------------------------- flaws of objects

ELSE = thing("cat", (2, 3, 11, 22))
OBJECT_FLAWS = {
    "object without name": ([thing("")], "it has no name", "dropped"),
    "unknown class": ([thing("cta")], '"cta" is none of the classes (Did you mean "cat"?)', "dropped"),
    "box not of four numbers": (
        [thing(box=(1, "two", 3, 4))],
        "the box xmin 1, ymin two, xmax 3, ymax 4 is not one of four numbers",
        "dropped",
    ),
    "box not finite": (
        [thing(box=(1, 2, "inf", 4))],
        "the box xmin 1, ymin 2, xmax inf, ymax 4 is not finite",
        "dropped",
    ),
    "box without area": ([thing(box=(5, 2, 5, 9))], "the box xmin 5, ymin 2, xmax 5, ymax 9 has no area", "dropped"),
    "box outside the image": (
        [thing(box=(42, 2, 50, 9))],
        "the box xmin 42, ymin 2, xmax 50, ymax 9 is not inside the image of 40 x 30",
        "dropped",
    ),
    "box partly outside the image": (
        [thing(box=(31, 2, 50, 9))],
        "the box xmin 31, ymin 2, xmax 50, ymax 9 is not inside the image of 40 x 30",
        "clipped",
    ),
    "object listed twice": (
        [thing("cat", (2, 3, 11, 22))],
        "object 1 is of the same class and place (the same box)",
        "dropped",
    ),
}


@pytest.mark.parametrize("kind", OBJECT_FLAWS)
def test_a_flaw_of_an_object_is_named_or_skipped_and_reported(case, kind):
    objects, what, action = OBJECT_FLAWS[kind]
    case.write("a", ELSE, *objects)
    options = {"classes": ["cat", "dog"]}
    fix = f'Mend it, or set invalid = "skip": it will be {action} and reported.'
    stop = "" if what.endswith(("?", ".")) else "."
    assert case.error(**options) == f"Annotations/a.xml: object 2: {what}{stop} {fix}"
    dataset = case.open(invalid="skip", **options)
    assert [(flaw.kind, flaw.action, flaw.what) for flaw in dataset.report] == [(kind, action, what)]
    assert case.plain(dataset.report[0].where) == "Annotations/a.xml: object 2"
    left = [[1, 2, 11, 22], [30, 1, 40, 9]] if action == "clipped" else [[1, 2, 11, 22]]
    assert boxes(dataset, 1) == left


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("box", [("inf", 1, "inf", 2), ("-inf", 1, 3, 2), ("nan", 1, 3, 2), ("1e300", 1, "2e300", 2)])
def test_numbers_that_are_none_are_flaws_and_warn_of_nothing(case, box):
    case.write("a", ELSE, thing(box=box))
    assert len(case.open(invalid="skip").report) == 1


def test_an_object_without_a_box_is_named(case):
    case.write("a", "<object><name>cat</name></object>")
    message = "Annotations/a.xml: object 1: the box xmin ?, ymin ?, xmax ?, ymax ? is not one of four numbers"
    assert case.error().startswith(message)


def test_what_is_only_odd_is_noted_and_left_as_it_is(case):
    case.write("a", thing(box=(2, 3, 21, 22)), thing(box=(3, 3, 22, 22)), thing("dog", (2, 3, 21, 22), "maybe"))
    case.write("b", thing("cat", difficult="<difficult>maybe</difficult>"), filename="c.png")
    dataset = case.open()  # not even with invalid = "fail" is it an error
    assert [(case.plain(flaw.where), flaw.kind, case.plain(flaw.what), flaw.action) for flaw in dataset.report] == [
        ("Annotations/b.xml", "other filename", 'filename says "c.png", the image is JPEGImages/b.png', "kept"),
        ("Annotations/a.xml: object 2", "object annotated twice",
         "object 1 is of the same class and place (IoU 0.90)", "kept"),
        ("Annotations/b.xml: object 1", "difficult not 0 or 1",
         'difficult is "maybe", neither 0 nor 1, and taken for 0', "kept"),
    ]  # fmt: skip
    assert len(boxes(dataset, 1)) == 3
    assert dataset.annotations(0)["iscrowd"].tolist() == [0]


def test_objects_are_counted_by_what_becomes_of_them(case):
    case.split("a", "b", "c")
    case.write("a", thing(difficult=HARD))
    case.write("b", thing(), thing(box=(5, 2, 5, 9)))
    case.write("c", thing(), thing())  # there is no image
    dataset = case.open(invalid="skip")
    assert dataset.object_counts == {"annotated": 5, "flawed": 1, "left_out": 2}
    dataset = case.open(invalid="skip", keep_empty=False)
    assert dataset.object_counts == {"annotated": 5, "flawed": 1, "left_out": 3}
    assert sum(len(boxes(dataset, index)) for index in range(len(dataset))) == 5 - 1 - 3


def test_what_is_skipped_is_counted_in_the_log(case, caplog):
    case.write("a", thing(box=(5, 2, 5, 9)), thing(box=(7, 2, 5, 9)))
    case.open(invalid="skip")
    assert case.plain(caplog.messages[0]) == "ImageSets/Main/train.txt: 2 x box without area: dropped"


def test_a_failure_says_how_many_there_are(case):
    case.write("a", thing(box=(5, 2, 5, 9)), thing(box=(7, 2, 5, 9)))
    assert case.error().endswith("it and 1 more like it will be dropped and reported.")


def test_boxes_that_stand_out_by_rounding_are_sound(case):
    case.write("a", thing(box=(0, 0, 41, 31)))
    dataset = case.open()
    assert dataset.report == []
    assert boxes(dataset, 1) == [[-1, -1, 41, 31]]


def test_a_part_of_an_object_is_not_the_object(case):
    part = "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
    case.write("a", thing("dog").replace("<object>", f"<object>{part}"))
    assert case.open().classes == ("cat", "dog")


# ---------------------------------------------------------------------------------------------------- flaws of files


def spoil_image(case):
    (case.root / "JPEGImages/a.png").unlink()


def double_image(case):
    Image.new("RGB", (40, 30)).save(case.root / "JPEGImages/a.jpg")


def write_text(text):
    return lambda case: case.xml("a").write_text(text)


DTD = '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]>' + xml_of(thing("&y;"))
FILE_FLAWS = {
    "listed twice": (lambda case: case.split("b", "a", "a"), "a is in the split before"),
    "missing annotation file": (lambda case: case.xml("a").unlink(), "there is no such file"),
    "not XML": (
        lambda case: case.xml("a").write_text("<annotation><size>"),
        "not XML: no element found (line 1, column 18)",
    ),
    "an entity": (
        write_text(DTD),
        "has a document type (DTD), which VOC's files have not and which may expand without end",
    ),
    "an encoding": (
        write_text('<?xml version="1.0" encoding="klingon"?><annotation/>'),
        "not XML that can be read: unknown encoding: klingon",
    ),
    "another root": (write_text("<svg/>"), "the outermost element is <svg>, not <annotation>"),
    "missing image file": (spoil_image, "there is no image JPEGImages/a (.jpg, .png, ...)"),
    "several image files": (double_image, 'there are a.jpg, a.png; filename says ""'),
    "image without size": (lambda case: case.write("a", thing(), size=""), "width '', height ''"),
    "image of no width": (
        lambda case: case.write("a", size="<size><width>0</width><height>30</height></size>"),
        "width '0', height '30'",
    ),
}


@pytest.mark.parametrize("kind", FILE_FLAWS)
def test_a_flaw_of_a_file_is_named_or_the_image_skipped_and_reported(case, kind):
    spoil, what = FILE_FLAWS[kind]
    spoil(case)
    fix = 'Mend it, or set invalid = "skip": it will be dropped and reported.'
    assert case.error() == f"Annotations/a.xml: {what}. {fix}"
    dataset = case.open(invalid="skip")
    assert [(case.plain(flaw.where), case.plain(flaw.what), flaw.action) for flaw in dataset.report] == [
        ("Annotations/a.xml", what, "dropped")
    ]
    assert dataset.image_ids.tolist() == (["b", "a"] if kind == "listed twice" else ["b"])


def test_filename_chooses_among_several_images(case):
    double_image(case)
    case.write("a", thing(), filename="a.jpg")
    assert case.open()[1][0].max() == 0


def test_all_images_dropped_is_an_error(case):
    case.xml("a").unlink()
    case.xml("b").write_text("")
    message = case.error(invalid="skip", classes=["cat"])
    assert message == "ImageSets/Main/train.txt: no image is left of 2. All had flaws: see the log."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "x"}, "x: there is no such folder of images. Check root and images."),
        ({"annotations": "x"}, "x: there is no such folder of annotations. Check root and annotations."),
        ({"annotations": "JPEGImages"}, "JPEGImages: there is no XML file in it. Check root and annotations."),
        ({"split": "x.txt"}, "x.txt: cannot be read: No such file or directory. Check root and split."),
        ({"split": "empty.txt"}, "empty.txt: lists no image. A split lists one image name per line."),
        (
            {"split": "JPEGImages/a.png"},
            "JPEGImages/a.png: not a text in UTF-8. A split lists one image name per line.",
        ),
    ],
)
def test_what_is_not_there_is_an_error(case, options, message):
    (case.root / "empty.txt").write_text("\n \n")
    assert case.error(**options) == message


def test_no_name_in_any_file_is_an_error(case):
    case.write("a")
    case.write("b")
    assert case.error() == 'Annotations: no object in its files has a name. Name the classes: classes = ["..."].'


def test_an_image_of_another_size_is_an_error_or_black_and_reported(case):
    Image.new("RGB", (41, 30)).save(case.root / "JPEGImages/a.png")
    with pytest.raises(DataError) as caught:
        case.open()[1]
    what = "the image is 41 x 30 (width x height), its annotations are for 40 x 30"
    assert case.plain(caught.value) == f"JPEGImages/a.png: {what}. Mend either of them."
    dataset = case.open(invalid="skip")
    image, target = dataset[1]
    assert image.shape == (3, 30, 40)
    assert image.max() == 0
    assert target["boxes"].shape == (0, 4)
    assert target["dropped"] == 2
    assert [case.plain(flaw) for flaw in dataset.report] == [f"JPEGImages/a.png: {what}; blackened"]


def test_exif_orientation_is_followed_on_request_only(case):
    turned = Image.new("RGB", (30, 40))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(case.root / "JPEGImages/a.png", exif=exif)
    with pytest.raises(DataError, match=r"Is it turned by EXIF\? Set exif = true\.$"):
        case.open()[1]
    assert case.open(exif=True)[1][0].shape == (3, 30, 40)


def test_the_dataset_holds_arrays_and_pickles(case):
    dataset = case.open()
    held = {key: value for key, value in vars(dataset).items() if isinstance(value, list | dict)}
    assert held == {"report": [], "object_counts": {"annotated": 4, "flawed": 0, "left_out": 0}}
    assert pickle.loads(pickle.dumps(dataset)).annotations(1)["labels"].tolist() == [1, 0]
    samples = [*DataLoader(dataset, batch_size=None, num_workers=1)]
    assert [target["image_id"] for _, target in samples] == ["b", "a"]


def test_past_the_end_is_an_index_error(case):
    with pytest.raises(IndexError, match="image 2 of 2"):
        case.open()[2]


# ------------------------------------------------------------------------------------------------------- real images


def by_pattern(split: str):
    """What is odd in BCCD, found without a parser: per split {(file, object): kind}, and the number of objects."""
    names = (DATA / "bccd/ImageSets/Main" / f"{split}.txt").read_text().split()
    found, count = {}, 0
    for name in names:
        text = (DATA / "bccd/Annotations" / f"{name}.xml").read_text()
        with Image.open(DATA / "bccd/JPEGImages" / f"{name}.jpg") as image:
            size = image.size
        assert (int(*re.findall(r"<width>(\d+)", text)), int(*re.findall(r"<height>(\d+)", text))) == size
        assert re.findall(r"<filename>(.*)</filename>", text) == [f"{name}.jpg"]
        objects = text.split("<object>")[1:]
        rows = []
        for number, part in enumerate(objects, 1):
            assert "<difficult>0<" in part
            (label,) = re.findall(r"<name>(\w+)</name>", part)
            assert label in ("RBC", "WBC", "Platelets")
            left, top, right, bottom = (int(*re.findall(f"<{tag}>(-?[0-9]+)<", part)) for tag in ("xmin", "ymin", "xmax", "ymax"))  # fmt: skip
            if right <= left or bottom <= top:
                found[name, number] = "box without area"
                continue
            assert min(left, top) >= 1
            assert right <= size[0]
            assert bottom <= size[1]
            for other, (x, y, r, b) in rows:
                w, h = min(r, right) - max(x, left) + 1, min(b, bottom) - max(y, top) + 1
                union = (r - x + 1) * (b - y + 1) + (right - left + 1) * (bottom - top + 1) - w * h
                if other == label and w > 0 and h > 0 and w * h >= 0.8 * union:
                    found[name, number] = "object annotated twice"
            rows.append((label, (left, top, right, bottom)))
        count += len(objects)
    return found, count


BCCD = {
    "train": (205, 2805, {"object annotated twice: kept": 5, "box without area: dropped": 1}),
    "val": (87, 1138, {"object annotated twice: kept": 2, "box without area: dropped": 1}),
    "test": (72, 945, {"object annotated twice: kept": 1}),
}


@needs_bccd
@pytest.mark.parametrize("split", BCCD)
def test_every_flaw_of_bccd_is_reported(split):
    images, objects, flaws = BCCD[split]
    dataset = VOCDataset(root=str(DATA / "bccd"), split=f"ImageSets/Main/{split}.txt", invalid="skip")
    expected, count = by_pattern(split)
    assert count == objects
    assert summarize(dataset.report) == flaws
    places = [re.fullmatch(r".*/(\w+)\.xml: object (\d+)", flaw.where).groups() for flaw in dataset.report]
    reported = {(name, int(number)): flaw.kind for (name, number), flaw in zip(places, dataset.report, strict=True)}
    assert reported == expected
    assert len(dataset) == images
    assert dataset.classes == ("Platelets", "RBC", "WBC")
    left = sum(len(dataset.annotations(index)["labels"]) for index in range(len(dataset)))
    assert left == objects - flaws.get("box without area: dropped", 0)
    dataset[0], dataset[len(dataset) - 1]
    assert summarize(dataset.report) == flaws


@needs_bccd
def test_the_first_flaw_of_bccd_ends_a_strict_run():
    with pytest.raises(DataError, match=r"BloodImage_00343\.xml: object 4: the box xmin 181, .* has no area\. Mend it"):
        VOCDataset(root=str(DATA / "bccd"), split="ImageSets/Main/train.txt")


def test_what_a_table_knows_is_what_loops_find():
    """IoU of twins over several images, against the plain formula."""
    from detcore_voc.checks import _twins, tabulate
    from detcore_voc.files import File
    from detcore_voc.reading import Entry, Sheet

    generator = np.random.default_rng(0)
    files = []
    for count in (4, 0, 1, 6):
        low = generator.integers(0, 4, (count, 2))
        corners = np.concatenate([low, low + generator.integers(1, 5, (count, 2))], 1)
        entries = tuple(Entry("ab"[row[0] % 2], tuple(map(str, row.tolist())), "0") for row in corners)
        files.append(File(Path("x"), "x", ["x.png"], Sheet("", ("9", "9"), entries), ""))
    table = tabulate(files, ["a", "b"], (0, 0, 0, 0))
    overlap, twin = _twins(table, np.arange(len(table.rows)))
    assert overlap.max() > 0.2
    for row, (x1, y1, x2, y2) in enumerate(table.boxes):
        best = 0.0
        for other in range(row):
            if table.file[other] != table.file[row] or table.label[other] != table.label[row]:
                continue
            a1, b1, a2, b2 = table.boxes[other]
            inner = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            best = max(best, inner / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inner))
        assert overlap[row] == pytest.approx(best)
        assert best == 0 or table.file[twin[row]] == table.file[row]
