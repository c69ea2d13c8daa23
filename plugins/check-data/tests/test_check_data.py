"""Each flaw, made on purpose, is found by its name; no object gets lost; sound data pass; mistakes are a line."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from detcore.assemble import load
from detcore.errors import ConfigError, DataError
from detcore.images import read_image
from detcore_check_data import plots
from detcore_check_data.check import TOLERANT, Split, check, run, tolerances
from detcore_check_data.command import check_data
from detcore_check_data.look import Look, file_flaws, look, object_flaws
from detcore_check_data.plots import PANELS
from detcore_check_data.samples import places, read
from matplotlib import figure as matplotlib_figure
from PIL import Image

pytest.importorskip("detcore_coco", reason="detcore-coco is not installed")

SIZE = (40, 30)
"""Width and height of images."""
DATASET = 'type = "CocoDataset"\nannotations = "${{here}}/{0}.json"\nimages = "${{here}}/{0}"\n'
CONFIG = f"""
[train]
epochs = 1
batch_size = 1
[train.dataset]
{DATASET.format("train")}
[val]
evaluator = {{ type = "CocoEvaluator" }}
[val.dataset]
{DATASET.format("val")}
"""


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def png16(path: Path) -> None:
    """A PNG of 16 bits a channel, which Pillow opens as one of 8."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(SIZE[0] * 6) for _ in range(SIZE[1]))
    head = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def tiff16(path: Path, bits: int = 16) -> None:
    """A TIFF of three channels of 16 bits, which Pillow opens as one of 8, too."""
    pixels = bytes(SIZE[0] * SIZE[1] * 3 * bits // 8)
    tags = [
        (256, SIZE[0]),
        (257, SIZE[1]),
        (258, 0),
        (259, 1),
        (262, 2),
        (273, 0),
        (277, 3),
        (278, SIZE[1]),
        (279, len(pixels)),
    ]
    behind = 8 + 2 + 12 * len(tags) + 4
    values = {258: (3, 3, behind), 273: (4, 1, behind + 6), 279: (4, 1, len(pixels))}
    entries = [struct.pack("<HHII", tag, *values.get(tag, (4, 1, value))) for tag, value in tags]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    path.write_bytes(head + b"".join(entries) + bytes(4) + struct.pack("<3H", *[bits] * 3) + pixels)


class Case:
    """A config with two COCO data sets of sound images, a box in each, that a test may spoil."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "my.toml"
        self.config.write_text(CONFIG)
        self.content = {split: self.sound(split, seed) for seed, split in enumerate(("train", "val"))}

    def sound(self, split: str, seed: int) -> dict[str, list[dict[str, Any]]]:
        (self.folder / split).mkdir()
        images = [self.image(split, number, picture(10 * seed + number)) for number in (1, 2)]
        boxes = [self.box(number, number) for number in (1, 2)]
        categories = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
        return {"images": images, "annotations": boxes, "categories": categories}

    def image(self, split: str, number: int, image: Image.Image | None, name: str = "", **options: Any) -> Any:
        name = name or f"{number}.png"
        if image is not None:
            image.save(self.folder / split / name, **options)
        return {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]}

    def box(self, number: int, image: int, box: tuple[float, ...] = (4, 5, 10, 12), category: int = 3) -> Any:
        return {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": 9, "iscrowd": 0}

    def add(self, number: int, image: Image.Image | None, name: str = "", **options: Any) -> Path:
        """An image of train with a box of its own."""
        self.content["train"]["images"].append(self.image("train", number, image, name, **options))
        self.annotate(number, number)
        return self.folder / "train" / (name or f"{number}.png")

    def annotate(self, *args: Any) -> None:
        self.content["train"]["annotations"].append(self.box(*args))

    def write(self) -> str:
        for split, content in self.content.items():
            (self.folder / f"{split}.json").write_text(json.dumps(content))
        return str(self.config)

    def check(self, **options: Any) -> dict[str, Split]:
        return {split.name: split for split in check(self.write(), **options)}

    def found(self, **options: Any) -> dict[str, list[str]]:
        """Where, by ``kind: action``, of train."""
        findings = self.check(**options)["train"].findings
        return {": ".join(key): [self.plain(flaw.where) for flaw in flaws] for key, flaws in findings.items()}

    def plain(self, where: str) -> str:
        return where.replace(f"{self.folder}{os.sep}", "")

    def call(self, *options: str) -> Result:
        return CliRunner().invoke(check_data, [self.write(), *options], catch_exceptions=False)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_of_sound_data_nothing_is_found_and_the_exit_code_is_0(case: Case) -> None:
    done = case.call()
    assert done.exit_code == 0
    lines = [f"{split}: 2 images; 2 objects used of 2 annotated" for split in ("train", "val")]
    assert done.output.splitlines() == [*lines, "nothing found"]


def spoil_all(case: Case) -> None:
    """Every flaw that the README names, in images 11 to 29 of train and annotations of image 1 from 101 on."""
    case.add(11, picture(11), "11.jpg")
    whole = (case.folder / "train" / "11.jpg").read_bytes()
    (case.folder / "train" / "11.jpg").write_bytes(whole[: len(whole) // 2])
    case.add(12, picture(12)).write_text("this is no image")
    case.add(13, picture(13, size=(30, 40)))
    exif = Image.Exif()
    exif[0x0112] = 6
    case.add(14, picture(14), "14.jpg", exif=exif)
    case.add(15, picture(15, "CMYK"), "15.jpg")
    case.add(16, Image.fromarray(np.full(SIZE[::-1], 40_000, np.uint16)))
    png16(case.add(17, picture(17)))
    case.add(18, picture(18, "L"))
    case.add(19, picture(19, "RGBA"))
    clear = picture(20, "RGBA")
    clear.putpixel((3, 4), (1, 2, 3, 0))
    case.add(20, clear)
    case.add(21, None)
    case.content["train"]["images"].append(case.image("train", 22, picture(22)))
    case.content["train"]["images"].append(case.image("train", 1, None, "2.png"))
    shutil.copy(case.folder / "val" / "2.png", case.add(23, picture(23)))
    shutil.copy(case.folder / "train" / "1.png", case.add(24, picture(24)))
    tiff16(case.add(25, picture(25), "25.tif"))
    case.annotate(101, 1, (50, 5, 10, 10))
    case.annotate(102, 1, (35, 5, 10, 10))
    case.annotate(103, 1, (5, 5, 0, 10))
    case.annotate(104, 1)  # as annotation 1
    case.annotate(105, 1, (0, 0, 40, 29.5))
    case.annotate(106, 1, (5, 5, 0.5, 10))
    case.annotate(107, 1, (5, 5, 9, 10), 77)
    case.annotate(108, 99)
    case.annotate(2, 1, (1, 2, 3, 4), 9)


FOUND = {
    "truncated image: blackened": ["train/11.jpg"],
    "unreadable image: blackened": ["train/12.png"],
    "wrongly sized image: blackened": ["train/13.png"],
    "EXIF-rotated image: kept": ["image 14"],
    "CMYK image: converted": ["image 15"],
    "16-bit image: reduced": ["image 16", "image 17", "image 25"],
    "grey image: kept": ["image 18"],
    "image with alpha: kept": ["image 19"],
    "image with alpha: made opaque": ["image 20"],
    "missing image file: dropped": ["train.json: image 21 (21.png)"],
    "image without objects: kept": ["image 22"],
    "image id used twice: dropped": ["train.json: image 1 (2.png)"],
    "same image twice: kept": ["image 24"],
    "box outside the image: dropped": ["train.json: annotation 101 (image 1)"],
    "box partly outside the image: clipped": ["train.json: annotation 102 (image 1)"],
    "box without area: dropped": ["train.json: annotation 103 (image 1)"],
    "object listed twice: used twice": ["image 1: object 3"],
    "huge box: kept": ["image 1: object 4"],
    "box thinner than a pixel: kept": ["image 1: object 5"],
    "unknown category: dropped": ["train.json: annotation 107 (image 1)"],
    "unknown image: dropped": ["train.json: annotation 108 (image 99)"],
    "annotation id used twice: kept": ["annotation 2"],
}


@pytest.mark.parametrize("workers", [0, 2])
def test_each_flaw_is_found_by_its_name_and_no_other(case: Case, workers: int) -> None:
    spoil_all(case)
    assert case.found(workers=workers) == FOUND


def test_a_file_in_two_splits_is_a_flaw_of_the_later(case: Case) -> None:
    spoil_all(case)
    (flaw,) = case.check()["val"].flaws
    assert (flaw.where, flaw.kind, flaw.action) == ("image 2", "same image in two splits", "in both")
    assert flaw.what == "its file has the content of train's image 23"


def test_what_is_harmless_comes_last_and_does_not_raise_the_exit_code(case: Case) -> None:
    case.add(18, picture(18, "L"))
    done = case.call()
    assert done.exit_code == 0
    assert done.output.splitlines()[2:] == [
        "split  finding     what is done  count  first",
        "train  grey image  kept          1      image 18",
        "flaws that lose or distort data: 0; that are only odd: 1",
    ]
    case.annotate(103, 1, (5, 5, 0, 10))
    done = case.call()
    assert done.exit_code == 1
    assert done.output.splitlines()[0] == "train: 3 images; 3 objects used of 4 annotated: 1 flawed"
    assert "box without area" in done.output.splitlines()[3]
    assert "grey image" in done.output.splitlines()[4]


def sums_up(objects: Mapping[str, int]) -> bool:
    return objects["annotated"] == sum(count for name, count in objects.items() if name != "annotated")


def test_as_many_objects_are_used_and_reported_as_the_file_has(case: Case) -> None:
    spoil_all(case)
    objects = case.check()["train"].objects
    assert objects["annotated"] == len(case.content["train"]["annotations"])
    # 4 annotations have flaws: 101, 103, 107, 108; image 21 is missing; 11, 12 and 13 cannot be read
    lost = {"flawed": 4, "left out": 1, "of unread images": 3, "not chosen": 0}
    assert {name: objects[name] for name in lost} == lost
    assert sums_up(objects)


def test_objects_of_classes_that_are_not_chosen_are_left_out(case: Case) -> None:
    case.annotate(5, 1, (1, 2, 3, 4), 9)
    objects = case.check(sets=['classes=["cat"]'])["train"].objects
    assert (objects["annotated"], objects["used"], objects["left out"]) == (3, 2, 1)
    assert sums_up(objects)


def test_all_is_in_the_json(case: Case, tmp_path: Path) -> None:
    for number in range(11, 16):
        case.add(number, picture(number, "L"))
    done = case.call("--json", str(tmp_path / "new" / "flaws.json"))
    told = json.loads((tmp_path / "new" / "flaws.json").read_text())
    train = told["splits"]["train"]
    assert told["config"] == str(case.config)
    assert (train["images"], train["classes"]) == (7, {"cat": 7, "dog": 0})
    (finding,) = train["findings"]
    assert (finding["kind"], finding["action"], finding["count"]) == ("grey image", "kept", 5)
    assert [entry["where"] for entry in finding["entries"]] == [f"image {number}" for number in range(11, 16)]
    assert finding["entries"][0]["what"] == "mode L: one channel is all three"
    assert "image 11; image 12; image 13; ..." in done.output
    assert told["splits"]["val"]["findings"] == []


def test_the_pictures_are_drawn(case: Case, tmp_path: Path) -> None:
    case.content["val"]["annotations"] = []
    assert case.call("--plots", str(tmp_path / "plots")).exit_code == 0
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {f"{split}_{panel}.png" for split in ("train", "val") for panel in PANELS}
    for name in names:
        assert np.ptp(np.asarray(Image.open(tmp_path / "plots" / name).convert("L"))) > 200


def panel(name: str, *arguments: Any) -> Any:
    """The axes of a panel, drawn."""
    figure = matplotlib_figure.Figure()
    axes = figure.subplots()
    getattr(plots, f"_{name}")(axes, *arguments)
    figure.draw_without_rendering()
    return axes


def some_looks(*counts: int, size: tuple[int, int] = SIZE) -> list[Look]:
    return [Look("image", size, np.ones((count, 4), np.float32), np.arange(count) % 3) for count in counts]


@pytest.mark.parametrize("number", [1, 3, 80])
def test_bars_of_classes_fill_the_panel_and_say_how_many(number: int) -> None:
    axes = panel("per_class", some_looks(4, 2), [f"c{label}" for label in range(number)])
    low, high = axes.get_ylim()
    assert low - high == pytest.approx(number + 0.2)  # half a bar, and a tenth, at either end
    assert [text.get_text() for text in axes.texts][:3] == ["3", "2", "1"][:number]
    assert all(each == int(each) for each in axes.get_xticks())


def test_sizes_are_in_one_scale_from_0_on_and_the_most_frequent_is_told() -> None:
    axes = panel("sizes", [*some_looks(1, 1), *some_looks(1, size=(10, 300))])
    assert axes.get_xlim() == axes.get_ylim() == (0, pytest.approx(315))
    assert axes.get_aspect() == 1
    assert [text.get_text() for text in axes.texts] == ["most often 40 x 30: 2"]


@pytest.mark.parametrize(("counts", "bars"), [((0, 0, 2, 7), 8), ((0,), 1), ((), 1), ((0, 150, 151), 51)])
def test_each_number_of_objects_has_its_bar(counts: tuple[int, ...], bars: int) -> None:
    axes = panel("per_image", some_looks(*counts))
    assert len(axes.patches) == bars
    assert sum(bar.get_height() for bar in axes.patches) == len(counts)
    if bars == 8:  # the middle of a bar is the number
        assert {bar.get_x() + 0.5: bar.get_height() for bar in axes.patches if bar.get_height()} == {0: 2, 2: 1, 7: 1}
    assert all(each == int(each) for each in (*axes.get_xticks(), *axes.get_yticks()))


def test_ratios_are_written_as_such() -> None:
    axes = panel("aspect_ratios", some_looks(1))
    assert [label.get_text() for label in axes.get_xticklabels()][4:7] == ["1 : 2", "1 : 1", "2 : 1"]


def test_a_turned_image_that_is_turned_as_it_says_is_only_noted(case: Case) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    case.add(14, picture(14, size=SIZE[::-1]), "14.jpg", exif=exif)  # lies on its side, its annotations do not
    assert case.found(sets=["train.dataset.exif=true"]) == {"EXIF-rotated image: kept": ["image 14"]}
    assert case.found() == {"wrongly sized image: blackened": ["train/14.jpg"]}


def wrap(case: Case, train: str) -> None:
    (dataset,) = [DATASET.format("train")]
    case.config.write_text(CONFIG.replace(dataset, train))


def test_wrapped_datasets_are_looked_through_and_read_once(case: Case) -> None:
    pytest.importorskip("detcore_datasets", reason="detcore-datasets is not installed")
    case.annotate(103, 1, (5, 5, 0, 10))
    inner = DATASET.format("train")
    wrap(case, f'type = "RepeatDataset"\ntimes = 3\n[train.dataset.dataset]\n{inner}')
    assert case.found() == {"box without area: dropped": ["train.json: annotation 103 (image 1)"]}
    split = case.check()["train"]
    assert [each.where for each in split.looks] == ["image 1", "image 2"]
    wrap(case, f'type = "SubsetDataset"\nfirst = 1\n[train.dataset.dataset]\n{inner}')
    objects = case.check()["train"].objects
    assert (objects["annotated"], objects["used"], objects["flawed"], objects["not chosen"]) == (3, 1, 1, 1)
    assert sums_up(objects)
    two = "".join(f"[train.dataset.datasets.{name}]\n{inner.replace('train', name)}" for name in ("train", "val"))
    wrap(case, f'type = "ConcatDataset"\n{two}')
    split = case.check()["train"]
    assert [each.where for each in split.looks] == [
        f"image {name}/{id_}" for name in ("train", "val") for id_ in (1, 2)
    ]
    assert sums_up(split.objects)


def test_data_that_a_reference_copies_tolerate_flaws_too(case: Case) -> None:
    case.annotate(103, 1, (5, 5, 0, 10))
    text = CONFIG.replace(f"[val.dataset]\n{DATASET.format('val')}", 'dataset = "${train.dataset}"\n')
    case.config.write_text(text)
    config, catalog = load(case.write())
    tables: Any = [config.table["train"], config.table["val"]]
    sets = tolerances([each["dataset"] for each in tables], catalog)
    assert sets == [f"train.dataset.{name}={value}" for name, value in TOLERANT.items()]
    kinds = [[flaw.kind for flaw in split.flaws] for split in case.check().values()]
    assert kinds == [["box without area"], ["box without area", *["same image in two splits"] * 2]]


class Bare:
    """What torchvision has: no more than the interface; its second sample raises."""

    classes = ("cat",)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        if index:
            raise ZeroDivisionError("of\nall things")
        boxes = torch.tensor([[1.0, 2, 9, 9], [1.0, 2, 9, 9]])
        return torch.zeros(3, 10, 20, dtype=torch.uint8), {"boxes": boxes, "labels": torch.zeros(2, dtype=torch.int64)}


def test_a_dataset_with_no_more_than_the_interface_is_looked_at_too() -> None:
    dataset: Any = Bare()
    assert [place.index for place in places(dataset)] == [0, 1]
    first, second = look(dataset, 0), look(dataset, 1)
    assert (first.where, first.size, first.digest) == ("image 0", (20, 10), "")
    assert [flaw.kind for flaw in first.flaws] == ["object listed twice"]
    (flaw,) = second.flaws
    assert str(flaw) == "image 1: ZeroDivisionError: of all things; ends a run"
    assert flaw.kind == "unreadable image"


class Deadly(Bare):
    """Its samples end the process that reads them, as the system does where memory runs out."""

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        os._exit(9)


def test_a_process_that_dies_is_an_error() -> None:
    dataset: Any = Deadly()
    with pytest.raises(DataError) as caught:
        read(places(dataset), workers=1)
    assert str(caught.value) == "data loader: a worker process died. Use fewer workers if memory ran out."


def test_a_crowd_is_no_huge_box_and_alone_no_object() -> None:
    boxes = np.array([[0, 0, 40, 30]], np.float32)
    found = Look("image 1", SIZE, boxes, np.array([0]), np.array([True]))
    assert [str(flaw) for flaw in object_flaws(found)] == ["image 1: it has only crowds; kept"]


def test_a_file_that_is_no_image_has_no_flaws_of_one() -> None:
    assert [*file_flaws(b"", "image 1", exif=False)] == []
    assert [*file_flaws(b"no image", "image 1", exif=False)] == []


@pytest.mark.parametrize("write", [png16, tiff16])
def test_16_bits_of_three_channels_are_read_in_the_head(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "deep")
    data = (tmp_path / "deep").read_bytes()
    assert Image.open(tmp_path / "deep").mode == "RGB"  # Pillow does not tell
    (flaw,) = file_flaws(data, "image 1", exif=False)
    assert str(flaw) == "image 1: mode RGB: only 8 bits of a value stay; reduced"
    assert read_image(tmp_path / "deep").shape == (3, SIZE[1], SIZE[0])


def test_8_bits_of_three_channels_are_no_flaw(tmp_path: Path) -> None:
    tiff16(tmp_path / "a.tif", bits=8)
    for name in ("b.tif", "c.png", "d.jpg", "e.webp", "f.bmp"):
        picture(1).save(tmp_path / name)
    for path in tmp_path.iterdir():
        assert [*file_flaws(path.read_bytes(), path.name, exif=False)] == []


def test_a_palette_with_a_transparent_colour_has_alpha(tmp_path: Path) -> None:
    picture(1, "P").save(tmp_path / "a.gif", transparency=picture(1, "P").getpixel((0, 0)))
    flaws = [*file_flaws((tmp_path / "a.gif").read_bytes(), "image 1", exif=False)]
    assert [(flaw.kind, flaw.action) for flaw in flaws] == [("image with alpha", "made opaque")]


def test_the_command_takes_the_configs_workers_or_its_own(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def read(samples: Any, workers: int) -> list[Look]:
        asked.append(workers)
        return [look(each.dataset, each.index) for each in samples]

    monkeypatch.setattr("detcore_check_data.check.read", read)
    assert case.call("--set", "train.workers=3").exit_code == 0
    assert asked == [3, 0]
    assert case.call("--workers", "2").exit_code == 0
    assert asked[2:] == [2, 2]


def test_a_config_without_data_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("seed = 1\n")
    with pytest.raises(ConfigError) as caught:
        run(str(tmp_path / "my.toml"))
    assert str(caught.value) == f"{tmp_path}/my.toml: says nothing of train and val. There is no data to check."


def test_data_that_cannot_be_read_at_all_are_an_error(case: Case) -> None:
    source = case.write()
    (case.folder / "train.json").write_text("{")
    with pytest.raises(DataError, match=r"train\.json"):
        run(source)


@pytest.mark.parametrize("text", ["[train", CONFIG.replace("CocoDataset", "CocoDatasett", 1)])
def test_core_run_finds_the_command_and_a_bad_config_is_a_line(case: Case, text: str) -> None:
    case.write()
    case.config.write_text(text)
    command = [sys.executable, "-m", "detcore", "check-data", str(case.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "my.toml" in done.stderr


def test_help_imports_no_torch() -> None:
    code = "import sys, detcore_check_data.command; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
