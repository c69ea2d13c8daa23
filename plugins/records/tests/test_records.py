"""A format of one class and two methods has all that data sets share."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detcore.errors import ComponentError, DataError
from detcore.interfaces import Dataset
from detcore.report import summarize
from detcore.testing import check_dataset
from detcore_records.dataset import RecordDataset
from detcore_records.index import Texts
from detcore_records.record import Bad, Record, extent
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader


class LineDataset(RecordDataset):
    """``file name left top right bottom`` on each line: how short a format can be."""

    read = 0

    def class_names(self) -> Sequence[str]:
        return "cat", "dog", "bird"

    def records(self) -> Iterator[Record | Bad]:
        LineDataset.read += 1
        objects: dict[str, list[tuple[int, str, list[str]]]] = {}
        for number, line in enumerate(self.source.read_text().splitlines(), 1):
            file, name, *box = line.split(" ")
            objects.setdefault(file, []).append((number, name, box))
        for file, rows in objects.items():
            lines, names, boxes = zip(*rows, strict=True)
            yield Record(id=file, file=file, boxes=boxes, names=names, lines=lines)


class GivenDataset(RecordDataset):
    """Any records; kept in no cache."""

    def __init__(self, given: Sequence[Record | Bad], names: Sequence[str] | None, **options: Any) -> None:
        self.given, self.names = given, names
        super().__init__(source="given", **options)

    def files(self) -> None:
        return None

    def class_names(self) -> Sequence[str] | None:
        return self.names

    def records(self) -> Sequence[Record | Bad]:
        return self.given


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (40, 30), (255, 128, 0)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def lines(folder: Path) -> Path:
    path = folder / "lines.txt"
    path.write_text("b.png dog 1 2 11 22\na.png cat 0 0 40 30\nb.png cat 5.5 6.5 9.5 9.5")
    return path


def given(folder: Path, *records: Record | Bad, names: Sequence[str] | None = None, **options: Any) -> GivenDataset:
    return GivenDataset(records, names, **{"images": str(folder), **options})


def boxes(dataset: RecordDataset, index: int) -> list[list[float]]:
    found: list[list[float]] = dataset.annotations(index)["boxes"].as_subclass(Tensor).tolist()
    return found


def one(**options: Any) -> Record:
    return Record(**{"id": 5, "file": "a.png", "boxes": [[1, 2, 11, 22]], "names": ["cat"], **options})


def test_two_methods_are_a_dataset(lines: Path) -> None:
    dataset = LineDataset(source=str(lines), images=str(lines.parent))
    check_dataset(dataset)
    assert isinstance(dataset, Dataset)
    image, target = dataset[0]
    assert (image.shape, image[:, 0, 0].tolist()) == ((3, 30, 40), [255, 128, 0])
    assert target["boxes"].tolist() == [[1, 2, 11, 22], [5.5, 6.5, 9.5, 9.5]]
    assert target["boxes"].canvas_size == (30, 40)
    assert (target["labels"].tolist(), target["image_id"]) == ([1, 0], "b.png")
    assert (target["iscrowd"].tolist(), target["area"].tolist()) == ([0, 0], [200, 12])
    assert dataset.classes == ("cat", "dog", "bird")
    assert dataset.image_ids.tolist() == ["b.png", "a.png"]
    assert dataset.report == []
    with pytest.raises(IndexError):
        dataset[2]


def test_files_are_read_once_until_one_of_them_changes(lines: Path) -> None:
    def times(**options: Any) -> int:
        before = LineDataset.read
        LineDataset(**{"source": str(lines), "images": str(lines.parent), **options})
        return LineDataset.read - before

    assert [times(), times(), times(classes=["dog"])] == [1, 0, 0]
    assert times(segmentation="polygons", invalid="skip") == 1  # outlines are arrays of their own
    lines.write_text("a.png cat 0 0 40 30")
    assert [times(), times()] == [1, 0]


def test_what_a_class_sets_before_is_part_of_what_is_read(folder: Path) -> None:
    class Named(LineDataset):
        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__(source=str(folder), images=str(folder))

        def records(self) -> Iterator[Record | Bad]:
            yield one(names=[self.name])

    assert [Named(name).annotations(0)["labels"].tolist() for name in ("dog", "bird")] == [[1], [2]]


def test_an_image_that_changes_is_asked_for_its_size_again(lines: Path) -> None:
    assert LineDataset(source=str(lines), images=str(lines.parent)).size(1) == (30, 40)
    Image.new("RGB", (50, 60)).save(lines.parent / "a.png")
    dataset = LineDataset(source=str(lines), images=str(lines.parent))
    assert dataset.size(1) == (60, 50)
    assert dataset[1][0].shape == (3, 60, 50)


def test_numbers_are_ids_too_and_sizes_need_no_file(folder: Path) -> None:
    dataset = given(folder, one(width=40, height=30), one(id=3, file="b.png", boxes=[], names=[]))
    assert dataset.image_ids.tolist() == [5, 3]
    assert type(dataset[0][1]["image_id"]) is int
    assert dataset[1][1]["boxes"].shape == (0, 4)
    check_dataset(dataset)


def test_fractions_are_of_the_image(folder: Path) -> None:
    outline = [0.1, 0.1, 0.5, 0.1, 0.5, 0.6]
    record = one(boxes=[[0.1, 0.1, 0.5, 0.6]], outlines=[[outline]], fractions=True)
    dataset = given(folder, record, segmentation="polygons")
    target = dataset[0][1]
    assert boxes(dataset, 0) == [[4, 3, 20, 18]]
    assert target["area"].tolist() == [240]
    assert target["polygons"].tolist() == [[4, 3], [20, 3], [20, 18]]
    check_dataset(dataset)


def test_outlines_have_owners_and_crowds_have_none(folder: Path) -> None:
    square, triangle = [1, 1, 9, 1, 9, 9, 1, 9], [2, 2, 8, 2, 8, 8]
    record = one(
        boxes=[[1, 1, 9, 9]] * 3, names=["cat"] * 3, crowd=[0, 1, 0], outlines=[[square], [], [triangle, square]]
    )
    target = given(folder, record, segmentation="polygons")[0][1]
    assert target["offsets"].tolist() == [0, 4, 7, 11]
    assert target["owner"].tolist() == [0, 2, 2]
    assert target["polygons"][:4].flatten().tolist() == square
    assert target["iscrowd"].tolist() == [0, 1, 0]
    assert "polygons" not in given(folder, record)[0][1]


def test_areas_and_crowds_are_the_records(folder: Path) -> None:
    record = one(boxes=[[1, 2, 11, 22]] * 2, names=["cat"] * 2, areas=[150, 7], crowd=[False, True])
    target = given(folder, record)[0][1]
    assert (target["area"].tolist(), target["iscrowd"].tolist()) == ([150, 7], [0, 1])


def test_classes_choose_of_those_that_a_format_declares(folder: Path) -> None:
    record = one(boxes=[[1, 2, 11, 22]] * 2, names=["cat", "dog"])
    dataset = given(folder, record, names=["cat", "dog", "bird"], classes=["bird", "dog"])
    assert (dataset.classes, dataset[0][1]["labels"].tolist()) == (("bird", "dog"), [1])
    assert given(folder, record).classes == ("cat", "dog")
    with pytest.raises(DataError) as caught:
        given(folder, record, names=["cat", "dog"], classes=["dgo"])
    assert str(caught.value) == (
        'given: no class is called "dgo", which the config lists in classes. Did you mean "dog"?\n'
        "class  config  annotations\n"
        "dgo    0       -\n"
        "cat    -       0\n"
        "dog    -       1"
    )
    with pytest.raises(DataError) as caught:
        given(folder, record, classes=["cat", "cat"])
    assert str(caught.value) == "given: classes = ['cat', 'cat']. Name at least one class, and each once."


def test_classes_that_objects_have_are_told_whether_they_are_chosen_or_not(folder: Path) -> None:
    record = one(boxes=[[1, 2, 11, 22]] * 2, names=["cat", "dog"])
    chosen = given(folder, record, names=["bird", "cat", "dog"], classes=["dog"])
    assert chosen.annotated_classes == {"cat": 1, "dog": 2}  # no object is a bird
    assert given(folder, record, classes=["cat", "dog"]).annotated_classes == {}  # another would be a flaw


def test_of_names_that_nobody_declares_another_is_a_flaw(folder: Path) -> None:
    record = one(boxes=[[1, 2, 11, 22]] * 2, names=["cat", "dgo"])
    with pytest.raises(DataError) as caught:
        given(folder, record, classes=["cat", "dog"])
    assert str(caught.value) == (
        'given: image 5: object 2: "dgo" is none of the classes (Did you mean "dog"?). '
        'Mend it, or set invalid = "skip": it will be dropped and reported.'
    )
    with pytest.raises(DataError, match=r'^given: no object has a class\. Name the classes: classes = \["\.\.\."\]\.$'):
        given(folder, one(boxes=[], names=[]))


NAN = float("nan")
OBJECT_FLAWS: dict[str, tuple[dict[str, Any], str]] = {
    "object without name": ({"names": [""]}, "it has no name"),
    "unknown class": ({"names": ["ox"]}, '"ox" is none of the classes'),
    "box not of four numbers": (
        {"boxes": [[1, 2, 3]]},
        "the box [1, 2, 3] (left, top, right, bottom) is not one of four numbers",
    ),
    "box not finite": (
        {"boxes": [[1, 2, NAN, 4]]},
        "the box [1.0, 2.0, nan, 4.0] (left, top, right, bottom) is not finite",
    ),
    "box without area": (
        {"boxes": [[5, 2, 5, 4]]},
        "the box [5.0, 2.0, 5.0, 4.0] (left, top, right, bottom) has no area",
    ),
    "box outside the image": (
        {"boxes": [[41, 2, 50, 4]]},
        "the box [41.0, 2.0, 50.0, 4.0] (left, top, right, bottom) is not inside the image of 40 x 30",
    ),
    "box partly outside the image": (
        {"boxes": [[-5, 2, 50, 4]]},
        "the box [-5.0, 2.0, 50.0, 4.0] (left, top, right, bottom) is not inside the image of 40 x 30",
    ),
}


@pytest.mark.parametrize("kind", OBJECT_FLAWS)
def test_a_flaw_of_an_object_is_named_or_skipped_and_reported(folder: Path, kind: str) -> None:
    change, what = OBJECT_FLAWS[kind]
    action = "clipped" if "partly" in kind else "dropped"
    records = one(id=1, file="b.png"), one(**change)
    with pytest.raises(DataError) as caught:
        given(folder, *records, names=["cat"])
    assert str(caught.value) == (
        f'given: image 5: object 1: {what}. Mend it, or set invalid = "skip": it will be {action} and reported.'
    )
    dataset = given(folder, *records, names=["cat"], invalid="skip")
    assert [str(flaw) for flaw in dataset.report] == [f"given: image 5: object 1: {what}; {action}"]
    assert boxes(dataset, 1) == ([[0, 2, 40, 4]] if action == "clipped" else [])
    assert summarize(dataset.report) == {f"{kind}: {action}": 1}


def test_boxes_of_whole_objects_are_cut_off_without_a_word(folder: Path) -> None:
    class Whole(GivenDataset):
        WHOLE = True

    records = [one(boxes=[[-5, 2, 50, 4], [41, 2, 50, 4]], names=["cat"] * 2)]
    dataset = Whole(records, None, images=str(folder), invalid="skip")
    assert boxes(dataset, 0) == [[0, 2, 40, 4]]
    assert summarize(dataset.report) == {"box outside the image: dropped": 1}


def test_rounded_boxes_are_sound_and_left_as_they_are(folder: Path) -> None:
    assert boxes(given(folder, one(boxes=[[-1, 0, 41, 30.5]])), 0) == [[-1, 0, 41, 30.5]]


@pytest.mark.parametrize(
    ("outline", "what"),
    [
        ([], "there is no outline"),
        ([[1, 2, 3, 4]], "an outline has 4 numbers, not x and y of three points or more"),
        ([[1, 2, 3, 4, 5, NAN]], "an outline has a number that is not finite"),
        ([["x"] * 6], "an outline has a number that is not finite"),
    ],
)
def test_an_unusable_outline_is_named_or_dropped(folder: Path, outline: Any, what: str) -> None:
    records = one(outlines=[outline]), one(id=6, file="b.png", crowd=[True])
    with pytest.raises(DataError, match=f"given: image 5: object 1: {what}"):
        given(folder, *records, segmentation="polygons")
    dataset = given(folder, *records, segmentation="polygons", invalid="skip")
    assert summarize(dataset.report) == {"unusable outline: dropped": 1}
    assert [len(boxes(dataset, index)) for index in (0, 1)] == [0, 1]


def test_a_flaw_of_an_image_is_named_or_the_image_skipped_and_reported(folder: Path) -> None:
    (folder / "d.png").write_bytes(b"no image")
    flaws = {
        f"given: image 2: there is no file {folder / 'z.png'}": one(id=2, file="z.png"),
        "given: image 5: an image before it has the id 5 too": one(file="c.png"),
        "own.txt: width 0, height 30": one(id=3, file="c.png", width=0, height=30, where="own.txt"),
        "given: image 4: its size cannot be read: not an image, or of an unknown format": one(id=4, file="d.png"),
    }
    for line, record in flaws.items():
        with pytest.raises(DataError) as caught:
            given(folder, one(), record)
        assert str(caught.value) == (f'{line}. Mend it, or set invalid = "skip": it will be dropped and reported.')
    dataset = given(folder, one(), *flaws.values(), invalid="skip")
    assert sorted(str(flaw) for flaw in dataset.report) == sorted(f"{line}; dropped" for line in flaws)
    assert dataset.image_ids.tolist() == [5]


def test_a_bad_entry_is_named_or_reported(folder: Path) -> None:
    bad = Bad("x.txt: line 3", "3 numbers, not 5", "unreadable line")
    with pytest.raises(DataError, match=r"^x\.txt: line 3: 3 numbers, not 5\. Mend it"):
        given(folder, one(), bad)
    report = given(folder, bad, one(), invalid="skip").report
    assert [str(flaw) for flaw in report] == ["x.txt: line 3: 3 numbers, not 5; dropped"]
    odd = given(folder, Bad("x.txt", "is not there", "missing file", "kept"), one())
    assert [str(flaw) for flaw in odd.report] == ["x.txt: is not there; kept"]
    assert len(odd) == 1


def test_a_line_is_where_an_object_is(lines: Path) -> None:
    lines.write_text("b.png dog 1 2 11 22\nb.png cat 1 2 3 NaN\nb.png cat 1 2 x 4")
    with pytest.raises(DataError) as caught:
        LineDataset(source=str(lines), images=str(lines.parent))
    assert str(caught.value).startswith(f"{lines}: line 3: the box ['1', '2', 'x', '4'] (left, top, right, bottom) is")


def test_images_without_objects_are_left_out_on_request(folder: Path) -> None:
    records = one(), one(id=6, file="b.png", crowd=[True]), one(id=7, file="c.png", boxes=[], names=[])
    assert given(folder, *records, keep_empty=False).image_ids.tolist() == [5]
    with pytest.raises(DataError, match=r"^given: no image is left of 2\. Set keep_empty = true to have images"):
        given(folder, *records[1:], keep_empty=False)


def test_objects_are_counted_by_what_becomes_of_them(folder: Path) -> None:
    records = (
        one(boxes=[[1, 2, 11, 22], [5, 5, 5, 9], [1, 2, 3, 4]], names=["cat", "cat", "dog"]),  # the second is flat
        one(id=6, file="z.png", boxes=[[1, 2, 3, 4], [5, 5, 5, 9]], names=["cat", "cat"]),  # there is no file
        one(id=7, file="b.png", crowd=[True]),
    )
    dataset = given(folder, *records, names=["cat", "dog"], invalid="skip")
    assert dataset.object_counts == {"annotated": 6, "flawed": 1, "left_out": 2}
    chosen = given(folder, *records, names=["cat", "dog"], invalid="skip", classes=["cat"], keep_empty=False)
    assert chosen.object_counts == {"annotated": 6, "flawed": 1, "left_out": 4}  # the dog and the crowd too
    assert sum(len(boxes(chosen, index)) for index in range(len(chosen))) == 6 - 1 - 4


def test_what_is_not_there_is_an_error(folder: Path) -> None:
    cases = [
        ("given: lists no image. Is it the right one?", []),
        ("given: no image is left of 1. All had flaws: see the log.", [one(file="z.png")]),
    ]
    for line, records in cases:
        with pytest.raises(DataError) as caught:
            given(folder, *records, names=["cat"], invalid="skip")
        assert str(caught.value) == line
    with pytest.raises(DataError, match=r"gone: there is no such folder of images\. Check the path\.$"):
        given(folder / "gone", one(width=40, height=30))
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read: No such file or directory\. Check the path\.$"):
        LineDataset(source=f"{folder}/gone.txt", images=str(folder))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: one(names=[]), "Record 5: 1 boxes, but 0 names"),
        (lambda: one(crowd=[True, False]), "Record 5: 1 boxes, but 2 crowd"),
    ],
)
def test_a_record_that_is_not_one_is_its_authors_mistake(make: Any, line: str) -> None:
    with pytest.raises(ComponentError, match=f"^{line}$"):
        make()


def test_ids_of_two_kinds_are_the_authors_mistake(folder: Path) -> None:
    for other in ("x", 1.5):
        with pytest.raises(ComponentError, match="ids are all whole numbers or all texts"):
            given(folder, one(), one(id=other, file="b.png"))


def test_a_source_that_cannot_be_read_is_one_line(lines: Path) -> None:
    def message() -> str:
        with pytest.raises(DataError) as caught:
            LineDataset(source=str(lines), images=str(lines.parent))
        return str(caught.value)

    lines.write_bytes(b"a.png \xff")
    assert message() == f"{lines}: not a text in UTF-8. Is it the right file?"
    lines.unlink()
    lines.mkdir()
    assert message() == f"{lines}: cannot be read: Is a directory. Check the path."


def test_a_broken_image_is_an_error_or_black_and_reported(lines: Path) -> None:
    broken = lines.parent / "b.png"
    broken.write_bytes(broken.read_bytes()[:60])  # its header is whole
    with pytest.raises(DataError, match=r"b\.png: not a sound image"):
        LineDataset(source=str(lines), images=str(lines.parent))[0]
    dataset = LineDataset(source=str(lines), images=str(lines.parent), invalid="skip")
    image, target = dataset[0]
    assert (image.shape, int(image.sum()), len(target["boxes"]), target["dropped"]) == ((3, 30, 40), 0, 0, 2)
    assert summarize(dataset.report) == {"unreadable image: blackened": 1}


def test_exif_orientation_is_followed_on_request_only(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(folder / "a.png", exif=exif)
    for turned, size in ((False, (30, 40)), (True, (40, 30))):
        dataset = given(folder, one(), exif=turned)
        assert (dataset.size(0), tuple(dataset[0][0].shape[1:])) == (size, size)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_map_the_same_arrays(lines: Path, context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3])  # where a spawned process finds this module
    dataset = LineDataset(source=str(lines), images=str(lines.parent))
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=get_context(context))
    assert [target["image_id"] for _, target in loader] == ["b.png", "a.png"]


def test_a_pickle_holds_paths_and_a_number_or_two_for_each_row(folder: Path) -> None:
    many = [[number, 1, number + 1, 2] for number in range(30)] * 100
    record = one(boxes=many, names=["cat"] * len(many), outlines=[[[1, 2, 3, 4, 5, 6]]] * len(many))
    dataset = given(folder, record, segmentation="polygons")
    dataset.given = ()
    text = pickle.dumps(dataset)
    assert len(text) < len(many) + 2000
    assert boxes(pickle.loads(text), 0) == many


def test_no_room_for_arrays_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detcore_records.index.tempfile.TemporaryDirectory", full)
    with pytest.raises(DataError, match=r"arrays cannot be written: No space left on device\. Make room there\.$"):
        given(folder, one())


def test_more_records_than_are_kept_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detcore_records.index.CHUNK", 2)
    records = [one(id=number, width=40, height=30, boxes=[[0, 0, number + 1, 5]] * number, names=["cat"] * number)
               for number in range(7)]  # fmt: skip
    dataset = given(folder, *records)
    assert [boxes(dataset, number) for number in range(7)] == [[[0, 0, n + 1, 5]] * n for n in range(7)]


def test_texts_are_a_sequence() -> None:
    arrays = {"t": np.frombuffer("aäbb".encode(), np.uint8), "t_ends": np.array([0, 1, 3, 5])}
    texts = Texts(arrays, "t")
    assert (texts[0], texts[-1], texts[1:], texts.tolist()) == ("a", "bb", ["ä", "bb"], ["a", "ä", "bb"])
    assert [*Texts(arrays, "t", np.array([2, 0]))] == ["bb", "a"]
    with pytest.raises(IndexError):
        texts[3]


def test_the_extent_of_outlines() -> None:
    assert extent([[1, 5, 3, 2, 2, 9], [0, 3, 1, 3, 1, 4]]) == [0, 2, 3, 9]
    assert np.isnan(extent([])).all()


def test_a_name_that_is_no_utf8_is_found(folder: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    Image.new("RGB", (40, 30)).save(folder / name)
    image, target = given(folder, one(id=name, file=name))[0]
    assert (image.shape, target["image_id"]) == (torch.Size([3, 30, 40]), name)
