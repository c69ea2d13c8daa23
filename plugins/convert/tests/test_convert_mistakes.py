"""Every mistake is a line that says what would be right; nothing that is there is lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from detcore.errors import UserError
from detcore_convert.command import SOURCES, convert
from detcore_convert.convert import run
from PIL import Image

ROW = {"image": "a.jpg", "width": 9, "height": 9, "boxes": [[1, 2, 3, 4]], "labels": ["cat"]}
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def rows(*each: dict[str, object]) -> str:
    tables = (", ".join(f"{key} = {json.dumps(value)}" for key, value in row.items()) for row in each)
    return f"rows=[{', '.join(f'{{{table}}}' for table in tables)}]"


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / "photos" / name)
    return [rows(ROW), f"images={json.dumps(str(tmp_path / 'photos'))}"]


def error_of(*arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        run(*arguments, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_rows_of_python_are_written(sets: list[str], tmp_path: Path) -> None:
    said = run("ListDataset", "csv", output=tmp_path / "out.csv", sets=sets)
    assert said.startswith("1 images, 1 objects, 1 classes; in ")
    assert (tmp_path / "out.csv").read_text() == "image,xmin,ymin,xmax,ymax,label\na.jpg,1,2,3,4,cat\n"


def test_nothing_can_be_lost(sets: list[str], tmp_path: Path) -> None:
    row = {**ROW, "id": 4}
    sets = [rows(row), sets[1], "segmentation=none"]
    row["polygons"] = [[[1, 2, 3, 2, 3, 4]]]
    said = run("ListDataset", "coco", output=tmp_path / "o.json", sets=[rows(row), sets[1], "segmentation=polygons"])
    assert said.splitlines()[1:] == ["lost: nothing"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("vok", 'core-run convert: "vok" is no format, type of a data set, or config. Did you mean "voc"?'),
        ("zzzz", f"is no format, type of a data set, or config. Formats are {', '.join(SOURCES)}."),
        ("NoSuchDataset", 'no dataset "NoSuchDataset" is installed'),
        ("none.toml", "none.toml"),
    ],
)
def test_a_source_that_there_is_not(source: str, message: str, tmp_path: Path) -> None:
    found = error_of(source, "coco", output=tmp_path / "out.json")
    assert message in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("imagse=1", "option --set imagse=1: imagse: not a parameter of dataset ListDataset"),
        ("keep_empty=3", "keep_empty: found 3, wanted bool"),
        ("images", "option --set images: no `=`"),
    ],
)
def test_a_parameter_is_named_as_it_was_given(sets: list[str], option: str, message: str, tmp_path: Path) -> None:
    found = error_of("ListDataset", "coco", output=tmp_path / "out.json", sets=[*sets, option])
    assert message in found
    assert "\n" not in found
    assert "train.dataset" not in found
    assert not (tmp_path / "out.json").exists()


def test_a_parameter_that_is_missing(tmp_path: Path) -> None:
    found = error_of("ListDataset", "coco", output=tmp_path / "out.json")
    assert 'convert ListDataset: "rows" of dataset ListDataset' in found
    assert "convert.toml" not in found


def test_data_without_files_cannot_be_converted(tmp_path: Path) -> None:
    pytest.importorskip("detcore_shapes", reason="detcore-shapes is not installed")
    found = error_of("ShapesDataset", "coco", output=tmp_path / "out.json", sets=["length=2"])
    wanted = "ShapesDataset: ShapesDataset is no data set of files of images and annotations."
    assert found == f"{wanted} It cannot be converted; those that it is made of can."


def test_flaws_end_it_with_the_first_named(sets: list[str], tmp_path: Path) -> None:
    flat = {**ROW, "boxes": [[1, 2, 1, 4]]}
    found = error_of("ListDataset", "coco", output=tmp_path / "out.json", sets=[rows(flat), sets[1]])
    assert "has no area" in found
    assert 'invalid = "skip"' in found


@pytest.mark.parametrize("target", ["coco", "csv"])
def test_a_file_that_is_there_is_not_replaced_unasked(sets: list[str], target: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    found = error_of("ListDataset", target, output=out, sets=sets)
    assert found == f"{out}: is there already. Name another --output, or give --force to replace its files."
    assert out.read_text() == "mine"
    run("ListDataset", target, output=out, sets=sets, force=True)
    assert "a.jpg" in out.read_text()


@pytest.mark.parametrize("target", ["voc", "yolo", "labelme"])
def test_a_folder_that_has_files_is_not_written_to_unasked(sets: list[str], target: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    found = error_of("ListDataset", target, output=out, sets=sets)
    assert found.startswith(f"{out}: has something in it already. ")
    assert [*out.iterdir()] == [out / "mine"]
    run("ListDataset", target, output=out, sets=sets, force=True)
    run("ListDataset", target, output=out, sets=sets, force=True)
    assert (out / "mine").read_text() == "mine"


def test_files_and_folders_are_not_mixed_up(sets: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = error_of("ListDataset", "yolo", output=tmp_path / "file", sets=sets, force=True)
    assert found == f"{tmp_path / 'file'}: is a file. This format is a folder: name another --output."
    found = error_of("ListDataset", "coco", output=tmp_path, sets=sets, force=True)
    assert found == f"{tmp_path}: is a folder. This format is a file: name another --output."


def test_what_is_converted_is_not_written_over(sets: list[str], tmp_path: Path) -> None:
    pytest.importorskip("detcore_formats.table", reason="detcore-formats is not installed")
    table = tmp_path / "table.csv"
    run("ListDataset", "csv", output=table, sets=sets)
    text = table.read_text()
    found = error_of("csv", "csv", output=table, sets=[f"source={json.dumps(str(table))}", sets[1]], force=True)
    assert found == f"{table}: is what is converted. Name another --output."
    assert table.read_text() == text


def test_voc_is_not_written_over_itself(sets: list[str], tmp_path: Path) -> None:
    pytest.importorskip("detcore_voc.dataset", reason="detcore-voc is not installed")
    run("ListDataset", "voc", output=tmp_path / "voc", sets=sets)
    root = f"root={json.dumps(str(tmp_path / 'voc'))}"
    found = error_of("voc", "voc", output=tmp_path / "voc", sets=[root, "split=ImageSets/Main/train.txt"], force=True)
    assert found.endswith("voc: is what is converted. Name another --output.")


@pytest.mark.parametrize("target", ["voc", "yolo", "labelme"])
def test_two_images_of_one_stem_are_an_error(sets: list[str], target: str, tmp_path: Path) -> None:
    both = rows(ROW, {**ROW, "image": "a.png"})
    found = error_of("ListDataset", target, output=tmp_path / "out", sets=[both, sets[1]])
    assert found == "a.png: a.jpg and a.png would have the same file of annotations. Rename one."


@pytest.mark.parametrize(("target", "name"), [("voc", "JPEGImages"), ("yolo", "images")])
def test_a_folder_of_images_is_not_replaced_by_a_link(sets: list[str], target: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "out" / name).mkdir(parents=True)
    found = error_of("ListDataset", target, output=tmp_path / "out", sets=sets, force=True)
    assert found.startswith(f"{tmp_path / 'out' / name}: is there already, and no link to ")
    run("ListDataset", target, output=tmp_path / "out", sets=sets, force=True, link=False)
    assert not [*(tmp_path / "out" / name).iterdir()]


def test_a_link_that_the_system_refuses(sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    found = error_of("ListDataset", "yolo", output=tmp_path / "out", sets=sets)
    assert "cannot be linked to" in found
    assert found.endswith("Operation not permitted. Give --no-link, and put the images there.")


def test_images_outside_of_their_folder_are_named_from_that_which_all_are_in(sets: list[str], tmp_path: Path) -> None:
    both = rows(ROW, {**ROW, "image": "../b.jpg"})
    Image.new("RGB", (9, 9)).save(tmp_path / "b.jpg")
    run("ListDataset", "coco", output=tmp_path / "out.json", sets=[both, sets[1]])
    images = json.loads((tmp_path / "out.json").read_text())["images"]
    assert [each["file_name"] for each in images] == ["photos/a.jpg", "b.jpg"]


def test_a_name_that_cannot_be_written(sets: list[str], tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "b\n.jpg")
    odd = rows({**ROW, "image": "b\n.jpg"})
    found = error_of("ListDataset", "voc", output=tmp_path / "out", sets=[odd, sets[1]])
    assert found.endswith("the name has letters that cannot be written. Rename it.")
    assert "\n" not in found


def test_a_class_that_cannot_be_written(sets: list[str], tmp_path: Path) -> None:
    found = error_of("ListDataset", "voc", output=tmp_path / "o", sets=[rows({**ROW, "labels": ["a\x01"]}), sets[1]])
    assert found == r"classes: 'a\x01': the name has letters that cannot be written. Rename it."


def test_blanks_of_any_kind_can_be_written(sets: list[str], tmp_path: Path) -> None:
    name = "10.15\u202fAM \u3000.jpg"
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / name)
    run("ListDataset", "coco", output=tmp_path / "out.json", sets=[rows({**ROW, "image": name}), sets[1]])
    assert json.loads((tmp_path / "out.json").read_text())["images"][0]["file_name"] == name


def test_what_cannot_be_written_is_a_line(sets: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in ("coco", "labelme"):
        found = error_of("ListDataset", target, output=tmp_path / "file" / "out", sets=sets)
        assert re.search(r"out(/a)?(\.json)?: cannot be written: (File exists|Not a directory)$", found)


def test_a_folder_called_images_below_those_of_images(sets: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos" / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "images" / "b.jpg")
    both = rows(ROW, {**ROW, "image": "images/b.jpg"})
    found = error_of("ListDataset", "yolo", output=tmp_path / "out", sets=[both, sets[1]])
    assert "images/b.jpg: a folder below it is called images" in found
    assert found.endswith("Name another folder of images, or rename that one.")


def test_the_command_prints_what_the_function_returns(sets: list[str], tmp_path: Path) -> None:
    options = [word for each in sets for word in ("--set", each)]
    arguments = ["ListDataset", "yolo", *options, "-o", str(tmp_path / "yolo"), "--split", "val", "--no-link"]
    done = CliRunner().invoke(convert, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.output.startswith(f"1 images, 1 objects, 1 classes; in {tmp_path / 'yolo'}\nlost: ")
    assert (tmp_path / "yolo" / "val.txt").read_text() == "./images/a.jpg\n"
    assert not (tmp_path / "yolo" / "images").exists()


def test_core_run_finds_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detcore", "convert", "vok", "coco", "-o", str(tmp_path / "out.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert 'Did you mean "voc"?' in done.stderr


def test_help_imports_no_torch() -> None:
    code = "import sys, detcore_convert.command; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_readme_names_every_format() -> None:
    told = {
        name for line in re.findall(r"^\| (`[^|]*) \|", README, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    }
    assert told == {*SOURCES, "coco", "csv", "labelme", "voc", "yolo"}
