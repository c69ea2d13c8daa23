"""What is written reads as what was read; what is not is counted."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detcore_convert.convert import run
from detcore_convert.sheets import decimals, number
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

CocoDataset = pytest.importorskip("detcore_coco.dataset", reason="detcore-coco is not installed").CocoDataset
BCCD = Path(os.environ.get("DETCORE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"), "bccd")
SIZES = {"a.jpg": (100, 80), "sub/b.jpg": (50, 60), "c.png": (64, 48)}
DOG = [[10.5, 20.25, 30.0, 60.75, 12.0, 30.0], [10.5, 20.25, 40.5, 20.25, 40.5, 60.75]]
ANNOTATIONS = [
    {"id": 1, "image_id": 7, "category_id": 5, "bbox": [10.5, 20.25, 30.0, 40.5], "area": 600.5, "segmentation": DOG},
    {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 50, 40], "area": 1999, "iscrowd": 1},
    {"id": 3, "image_id": 9, "category_id": 2, "bbox": [1.07, 2.03, 3.65, 4.9], "area": 17.885},
]
CATEGORIES = [{"id": 5, "name": "dog"}, {"id": 2, "name": "a & b"}, {"id": 9, "name": "zebra"}]
OBJECT = (
    "<object><name>{}</name>{}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, size in SIZES.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)
    return tmp_path / "photos"


def write_coco(path: Path, annotations: Any = ANNOTATIONS) -> Path:
    images = [
        {"id": id_, "file_name": name, "width": width, "height": height}
        for id_, (name, (width, height)) in zip((7, 3, 9), SIZES.items(), strict=True)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


def coco(path: Path, photos: Path, **options: Any) -> Any:
    return CocoDataset(annotations=str(path), images=str(photos), **options)


def of_coco(path: Path, photos: Path, *more: str) -> list[str]:
    return [f"annotations={json.dumps(str(path))}", f"images={json.dumps(str(photos))}", *more]


def lost(said: str) -> list[str]:
    return [line.removeprefix("lost: ") for line in said.splitlines()[1:]]


def objects(dataset: Any, crowds: bool = True) -> Mapping[str, Any]:
    """By the image's name: size, and the objects with their numbers as float32 has them."""
    found: dict[str, Any] = {}
    for index in range(len(dataset)):
        target = dataset.annotations(index)
        rows = zip(target["boxes"].tolist(), target["labels"].tolist(), target["iscrowd"].tolist(), strict=True)
        kept = [(dataset.classes[label], crowd, box) for box, label, crowd in rows if crowds or not crowd]
        found[dataset.path(index).name] = (dataset.size(index), kept)
    return found


# ------------------------------------------------------------------------------------------------------- round trips


def test_coco_stays_coco(tmp_path: Path, photos: Path) -> None:
    file, out = write_coco(tmp_path / "in.json"), tmp_path / "new" / "out.json"
    said = run("coco", "coco", output=out, sets=of_coco(file, photos))
    assert said.splitlines()[0] == f"3 images, 3 objects, 3 classes; in {out}"
    assert lost(said) == ["outlines, which were not read: --set segmentation=polygons"]
    written = json.loads(out.read_text())
    assert written["categories"] == CATEGORIES
    assert written["images"] == json.loads(file.read_text())["images"]
    wanted = [{"iscrowd": 0, **each} for each in ANNOTATIONS]
    assert written["annotations"] == [{k: v for k, v in each.items() if k != "segmentation"} for each in wanted]


def test_outlines_stay_and_masks_of_crowds_become_boxes(tmp_path: Path, photos: Path) -> None:
    crowd = {**ANNOTATIONS[1], "segmentation": {"size": [80, 100], "counts": [0, 8000]}}
    file, out = write_coco(tmp_path / "in.json", [ANNOTATIONS[0], crowd]), tmp_path / "out.json"
    said = run("coco", "coco", output=out, sets=of_coco(file, photos, "segmentation=polygons"))
    written = json.loads(out.read_text())["annotations"]
    assert written[0]["segmentation"] == DOG
    assert written[1]["segmentation"] == [[0, 0, 50, 0, 50, 40, 0, 40]]
    assert "masks of crowds, now their boxes: 1" in lost(said)


def test_voc_to_coco_to_voc_is_exact(tmp_path: Path, photos: Path) -> None:
    voc = pytest.importorskip("detcore_voc.dataset", reason="detcore-voc is not installed").VOCDataset
    root, back, middle = tmp_path / "voc", tmp_path / "back", tmp_path / "middle.json"
    hand = {
        "a": OBJECT.format("dog", "<truncated>1</truncated>", 11, 21, 40, 61)
        + OBJECT.format("a &amp; b", "<difficult>1</difficult>", 1, 1, 100, 80),
        "sub/b": "",
        "c": OBJECT.format("dog", "", 1.5, 2.25, 33.3, 47.07),
    }
    for (stem, text), (width, height) in zip(hand.items(), SIZES.values(), strict=True):
        path = root / "Annotations" / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        path.write_text(f"<annotation>{size}{text}</annotation>")
    (root / "JPEGImages").symlink_to(photos)
    first = voc(root=str(root))
    said = run("voc", "coco", output=middle, sets=[f"root={json.dumps(str(root))}"])
    assert lost(said) == [
        "identifiers of images that are texts, now numbers: 3",
        "truncated flags: 1",
        "difficult flags, now crowds: 1",
    ]
    boxes = [each["bbox"] for each in json.loads(middle.read_text())["annotations"]]
    assert boxes == [[10, 20, 30, 41], [0, 0, 100, 80], [0.5, 1.25, 32.8, 45.82]]
    said = run("coco", "voc", output=back, sets=of_coco(middle, photos), split="val")
    assert lost(said)[0] == "crowds, now difficult objects: 1"
    second = voc(root=str(back), split="ImageSets/Main/val.txt")
    assert objects(second) == objects(first)
    assert second.classes == first.classes == ("a & b", "dog")
    assert [*second.image_ids] == [*first.image_ids] == ["a", "c", "sub/b"]
    assert torch.equal(second[0][0], first[0][0])
    third = tmp_path / "third"
    run("voc", "voc", output=third, sets=[f"root={json.dumps(str(back))}"], split="val")
    assert _texts(third) == _texts(back)


def _texts(folder: Path) -> Mapping[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.glob("[AI]*/**/*.*")}


def test_coco_to_yolo_to_coco_has_the_boxes_to_the_texts_rounding(tmp_path: Path, photos: Path) -> None:
    yolo = pytest.importorskip("detcore_yolo.dataset", reason="detcore-yolo is not installed").YOLODataset
    file, folder, back = write_coco(tmp_path / "in.json"), tmp_path / "yolo", tmp_path / "back.json"
    said = run("coco", "yolo", output=folder, sets=of_coco(file, photos))
    assert lost(said) == [
        "sizes of images (readers ask the files): 3",
        "crowds and difficult objects, left out: 1",
        "areas other than those of boxes: 1",
        "outlines, which were not read: --set segmentation=polygons",
    ]
    assert (folder / "labels/a.txt").read_text() == "0 0.255000 0.506250 0.300000 0.506250\n"  # by hand
    assert (folder / "labels/sub/b.txt").read_text() == ""
    first = coco(file, photos)
    assert yolo(data=str(folder / "data.yaml")).classes == first.classes
    assert yolo(data=str(folder / "data.yaml")).report == []
    run("yolo", "coco", output=back, sets=[f"data={json.dumps(str(folder / 'data.yaml'))}"])
    second = coco(back, folder)
    wanted, found = objects(first, crowds=False), objects(second)
    assert found.keys() == wanted.keys()
    for name, (size, things) in wanted.items():
        assert found[name][0] == size
        assert [each[:2] for each in found[name][1]] == [each[:2] for each in things]
        for mine, its in zip(found[name][1], things, strict=True):
            assert np.abs(np.subtract(mine[2], its[2])).max() <= 0.75e-6 * max(size) + 1e-5


def test_yolo_of_outlines_has_the_largest_of_each_object(tmp_path: Path, photos: Path) -> None:
    file, folder = write_coco(tmp_path / "in.json", ANNOTATIONS[:1]), tmp_path / "yolo"
    said = run("coco", "yolo", output=folder, sets=of_coco(file, photos, "segmentation=polygons"))
    assert "outlines of objects that have several, but for the largest: 1" in lost(said)
    wanted = " ".join(f"{each / side:.6f}" for each, side in zip(DOG[1], [100, 80] * 3, strict=True))
    assert (folder / "labels/a.txt").read_text() == f"0 {wanted}\n"


def test_two_splits_share_a_folder_of_yolos(tmp_path: Path, photos: Path) -> None:
    file, folder = write_coco(tmp_path / "in.json"), tmp_path / "yolo"
    run("coco", "yolo", output=folder, sets=of_coco(file, photos))
    run("coco", "yolo", output=folder, sets=of_coco(file, photos), split="val", force=True)
    names = 'names:\n  0: "dog"\n  1: "a & b"\n  2: "zebra"\n'
    assert (folder / "data.yaml").read_text() == f"path: .\ntrain: train.txt\nval: val.txt\n{names}"
    run("coco", "yolo", output=folder, sets=of_coco(file, photos, 'classes=["dog"]'), force=True)
    assert (folder / "data.yaml").read_text() == 'path: .\ntrain: train.txt\nnames:\n  0: "dog"\n'


def test_images_below_a_folder_called_images_are_found(tmp_path: Path, photos: Path) -> None:
    yolo = pytest.importorskip("detcore_yolo.dataset", reason="detcore-yolo is not installed").YOLODataset
    file, folder, again = write_coco(tmp_path / "in.json"), tmp_path / "yolo", tmp_path / "again"
    run("coco", "yolo", output=folder, sets=of_coco(file, photos))
    run("yolo", "yolo", output=again, sets=[f"data={json.dumps(str(folder / 'data.yaml'))}"])
    assert (again / "images").resolve() == photos
    assert objects(yolo(data=str(again / "data.yaml"))) == objects(yolo(data=str(folder / "data.yaml")))


def test_coco_to_csv_and_back(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("detcore_formats.table", reason="detcore-formats is not installed")
    file, table, back = write_coco(tmp_path / "in.json"), tmp_path / "out.csv", tmp_path / "back.json"
    said = run("coco", "csv", output=table, sets=of_coco(file, photos, "segmentation=polygons", "invalid=skip"))
    assert "objects' outlines: 1" in lost(said)
    said = run("coco", "csv", output=table, sets=of_coco(file, photos), force=True)
    assert {"crowds and difficult objects, left out: 1", "areas other than those of boxes: 1"} < {*lost(said)}
    assert "classes that no object has: 1" in lost(said)
    assert "the order of classes (readers sort names; or give them classes): 1" in lost(said)
    assert [*csv.reader(table.open())][1:] == [
        ["a.jpg", "10.5", "20.25", "40.5", "60.75", "dog"],
        ["sub/b.jpg", "", "", "", "", ""],
        ["c.png", "1.07", "2.03", "4.72", "6.93", "a & b"],
    ]
    run("csv", "coco", output=back, sets=[f"source={json.dumps(str(table))}", f"images={json.dumps(str(photos))}"])
    assert objects(coco(back, photos)) == objects(coco(file, photos), crowds=False)


@pytest.mark.parametrize("outlined", [False, True])
def test_coco_to_labelme_and_back(tmp_path: Path, photos: Path, outlined: bool) -> None:
    pytest.importorskip("detcore_formats.labelme", reason="detcore-formats is not installed")
    more = ["segmentation=polygons"] if outlined else []
    kept = ANNOTATIONS[:1] if outlined else ANNOTATIONS
    file, folder, back = write_coco(tmp_path / "in.json", kept), tmp_path / "labelme", tmp_path / "back.json"
    run("coco", "labelme", output=folder, sets=of_coco(file, photos, *more))
    sheet = json.loads((folder / "a.json").read_text())
    assert [each["shape_type"] for each in sheet["shapes"]] == (["polygon"] * 2 if outlined else ["rectangle"])
    assert (folder / sheet["imagePath"]).resolve() == photos / "a.jpg"
    run("labelme", "coco", output=back, sets=[f"source={json.dumps(str(folder))}"])
    assert [each["file_name"] for each in json.loads(back.read_text())["images"]] == ["a.jpg", "c.png", "sub/b.jpg"]
    assert objects(coco(back, photos)) == objects(coco(file, photos), crowds=False)


def test_boxes_that_are_not_those_of_outlines_are_counted(tmp_path: Path, photos: Path) -> None:
    wide = {**ANNOTATIONS[0], "bbox": [10.5, 20.25, 31.0, 40.5]}
    file = write_coco(tmp_path / "in.json", [wide])
    for target in ("yolo", "labelme"):
        sets = of_coco(file, photos, "segmentation=polygons")
        said = run("coco", target, output=tmp_path / target, sets=sets)
        assert "boxes other than those of outlines: 1" in lost(said)


VOC_SAYS = {
    "<pose>Left</pose><occluded>1</occluded>": ['"pose" of objects: 1', "occluded flags: 1"],
    "<pose>Unspecified</pose><truncated>0</truncated><occluded>0</occluded><difficult>0</difficult>": ["nothing"],
    "<pose/><truncated> 1 </truncated><difficult>1</difficult>": [
        "truncated flags: 1",
        "difficult flags, now crowds: 1",
    ],
    "<part><name>head</name></part><part><name>foot</name></part>": ['"part" of objects: 1'],
    "<actions><jumping>1</jumping></actions><colour>red</colour>": [
        '"actions" of objects: 1',
        '"colour" of objects: 1',
    ],
}


def voc_folder(root: Path, photos: Path, says: str) -> list[str]:
    """An image of an object that says so, and one that says nothing."""
    (root / "Annotations").mkdir(parents=True)
    size = "<size><width>100</width><height>80</height></size>"
    both = OBJECT.format("dog", says, 11, 21, 40, 61) + OBJECT.format("dog", "", 1, 2, 30, 40)
    (root / "Annotations" / "a.xml").write_text(f"<annotation>{size}{both}</annotation>")
    (root / "JPEGImages").symlink_to(photos)
    return [f"root={json.dumps(str(root))}"]


@pytest.mark.parametrize(("says", "lines"), VOC_SAYS.items())
def test_what_vocs_objects_say_beside_is_counted(tmp_path: Path, photos: Path, says: str, lines: list[str]) -> None:
    pytest.importorskip("detcore_voc.dataset", reason="detcore-voc is not installed")
    sets = voc_folder(tmp_path / "voc", photos, says)
    said = run("voc", "coco", output=tmp_path / "out.json", sets=sets)
    found = [line for line in lost(said) if not line.startswith("identifiers")]
    assert sorted(found or ["nothing"]) == sorted(lines)


def test_difficult_flags_are_lost_where_their_objects_are_kept_as_others(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("detcore_voc.dataset", reason="detcore-voc is not installed")
    sets = voc_folder(tmp_path / "voc", photos, "<difficult>1</difficult>")
    for target in ("coco", "csv"):
        said = run("voc", target, output=tmp_path / f"kept.{target}", sets=[*sets, 'difficult="keep"'])
        assert "difficult flags: 1" in lost(said)
    said = run("voc", "csv", output=tmp_path / "out.csv", sets=sets)
    assert "crowds and difficult objects, left out: 1" in lost(said)
    assert not [line for line in lost(said) if "flags" in line]
    said = run("voc", "voc", output=tmp_path / "again", sets=sets)
    assert lost(said) == ["crowds, now difficult objects: 1"]  # as they were


@pytest.mark.parametrize("target", ["coco", "labelme"])
def test_what_labelmes_shapes_say_beside_is_counted(tmp_path: Path, photos: Path, target: str) -> None:
    pytest.importorskip("detcore_formats.labelme", reason="detcore-formats is not installed")

    def shape(x: int, **says: Any) -> dict[str, Any]:
        corners = [[x, 2], [x + 10, 20]]
        plain: dict[str, Any] = {"group_id": None, "flags": {}, "description": "", "mask": None, "score": None}
        return {"label": "dog", "points": corners, "shape_type": "rectangle", **plain, **says}

    shapes = [
        shape(1),
        shape(11, group_id=0),
        shape(21, group_id=4, flags={"old": True, "wet": False}),
        shape(31, flags={"old": False}, description="behind a tree", score=0.0),
        shape(41, description="wet", colour="red"),
    ]
    sheet = {"version": "5.0.0", "flags": {"night": True}, "shapes": shapes, "imagePath": "a.jpg", "imageData": None}
    (photos / "a.json").write_text(json.dumps({**sheet, "imageHeight": 80, "imageWidth": 100}))
    said = run("labelme", target, output=tmp_path / "out", sets=[f"source={json.dumps(str(photos))}"])
    assert {line for line in lost(said) if '"' in line} == {
        '"group_id" of shapes: 2',
        '"description" of shapes: 2',
        '"flags" of shapes: 1',
        '"score" of shapes: 1',
        '"colour" of shapes: 1',
        '"flags" of images: 1',
    }


def test_flaws_that_are_skipped_are_counted(tmp_path: Path, photos: Path) -> None:
    flat = {**ANNOTATIONS[0], "bbox": [1, 2, 0, 4]}
    file = write_coco(tmp_path / "in.json", [*ANNOTATIONS[1:], flat])
    said = run("coco", "csv", output=tmp_path / "out.csv", sets=of_coco(file, photos, "invalid=skip"))
    assert "box without area: dropped: 1" in lost(said)


def test_what_a_format_alone_has_is_counted(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("detcore_lvis.dataset", reason="detcore-lvis is not installed")
    file = write_coco(tmp_path / "in.json")
    said = run("lvis", "csv", output=tmp_path / "out.csv", sets=of_coco(file, photos))
    assert {'"neg_labels" of images: 3', '"not_exhaustive_labels" of images: 3'} < {*lost(said)}


def test_a_config_is_read_as_well(tmp_path: Path, photos: Path) -> None:
    file = write_coco(tmp_path / "in.json")
    table = f'type = "CocoDataset"\nannotations = "{file.as_posix()}"\nimages = "{photos.as_posix()}"\n'
    (tmp_path / "my.toml").write_text(f'[val.evaluator]\ntype = "CocoEvaluator"\n[val.dataset]\n{table}')
    sets = ['val.dataset.classes=["dog"]']
    said = run(str(tmp_path / "my.toml"), "coco", output=tmp_path / "out.json", split="val", sets=sets)
    assert said.startswith("3 images, 1 objects, 1 classes")
    assert json.loads((tmp_path / "out.json").read_text())["categories"] == CATEGORIES[:1]


def test_no_image_is_read(tmp_path: Path, photos: Path) -> None:
    file = write_coco(tmp_path / "in.json")
    for name in SIZES:
        (photos / name).write_bytes(b"no image")
    for target, suffix in (("coco", ".json"), ("csv", ".csv"), ("voc", ""), ("yolo", ""), ("labelme", "")):
        run("coco", target, output=tmp_path / f"{target}{suffix}", sets=of_coco(file, photos))
    assert (tmp_path / "yolo/images").resolve() == (tmp_path / "voc/JPEGImages").resolve() == photos


@given(st.floats(0, 5000, width=32))
def test_decimals_give_the_same_float32(value: float) -> None:
    (found,) = decimals(torch.tensor([value]))
    assert np.float32(found) == np.float32(value)
    assert len(repr(float(found))) <= 13
    assert number(float(np.float32(0.1) * 0 + 3)) == 3


@pytest.mark.skipif(not BCCD.is_dir(), reason=f"no real data at {BCCD}")
def test_blood_cells_are_the_same_as_voc_and_as_coco(tmp_path: Path) -> None:
    voc = pytest.importorskip("detcore_voc.dataset", reason="detcore-voc is not installed").VOCDataset
    first = voc(root=str(BCCD), invalid="skip")
    sets = [f"root={json.dumps(str(BCCD))}", "invalid=skip"]
    said = run("voc", "coco", output=tmp_path / "bccd.json", sets=sets)
    second = coco(tmp_path / "bccd.json", BCCD / "JPEGImages")
    assert second.classes == first.classes == ("Platelets", "RBC", "WBC")
    assert second.report == []
    assert len(second) == len(first) == 364
    seen = 0
    for index in range(len(first)):
        wanted, found = first.annotations(index), second.annotations(index)
        assert second.path(index) == first.path(index)
        assert second.size(index) == first.size(index)
        for key in ("boxes", "labels", "iscrowd", "area"):
            assert torch.equal(found[key].as_subclass(torch.Tensor), wanted[key].as_subclass(torch.Tensor))
        seen += len(found["labels"])
    assert said.startswith(f"364 images, {seen} objects, 3 classes")
    assert any(line.startswith("box without area: dropped") for line in lost(said))
