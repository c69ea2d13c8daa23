"""The data set keeps its contract, and reads what is written; no flaw is silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detcore.cli import main
from detcore.errors import DataError
from detcore.testing import check_dataset
from PIL import Image

from {{ cookiecutter.__package }}.dataset import {{ cookiecutter.__class }}

CONFIG = "{{ cookiecutter.__slug }}::quickstart.toml"


def an_object(name: str, *box: float, **more: bool) -> dict[str, Any]:
    return {"box": box, "class": name, **more}


def write(folder: Path, name: str, rows: list[Any]) -> Path:
    """Lines in a file of the folder, and the images that they name, 60 x 40 (width, height)."""
    (folder / "images").mkdir(exist_ok=True)
    for row in rows:
        if isinstance(row, dict):
            Image.new("RGB", (60, 40), (90, 120, 60)).save(folder / "images" / row["image"])
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two splits; what is made of them is kept beside them."""
    monkeypatch.setenv("DETCORE_CACHE", str(tmp_path / "cache"))
    circle, rectangle = an_object("circle", 10, 5, 40, 35), an_object("rectangle", 20.5, 0, 60, 20)
    train = [{"image": f"{number}.png", "objects": [circle, rectangle][number % 2 :]} for number in range(8)]
    write(tmp_path, "train.jsonl", train)
    write(tmp_path, "val.jsonl", [{"image": "v.png", "objects": [circle]}, {"image": "w.png"}])
    return tmp_path


def dataset(folder: Path, name: str = "train.jsonl", **options: Any) -> {{ cookiecutter.__class }}:
    return {{ cookiecutter.__class }}(source=str(folder / name), images=str(folder / "images"), **options)


def test_it_is_a_dataset(folder: Path) -> None:
    check_dataset(dataset(folder))


def test_it_reads_what_is_written(folder: Path) -> None:
    crowd = an_object("circle", 0, 0, 30, 30, crowd=True)
    write(folder, "a.jsonl", [{"image": "a.png", "objects": [an_object("star", 1, 2, 30, 40), crowd]}, ""])
    data = dataset(folder, "a.jsonl")
    image, target = data[0]
    assert (len(data), tuple(data.classes)) == (1, ("circle", "star"))
    assert tuple(image.shape) == (3, 40, 60)
    assert target["boxes"].tolist() == [[1, 2, 30, 40], [0, 0, 30, 30]]
    assert target["labels"].tolist() == [1, 0]
    assert target["iscrowd"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"image": ', "b.jsonl: line 2: is no JSON"),
        ("[1, 2]", "b.jsonl: line 2: is no image with objects"),
        ('{"objects": []}', "b.jsonl: line 2: is no image with objects"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(folder: Path, line: str, said: str) -> None:
    write(folder, "b.jsonl", [{"image": "b.png", "objects": [an_object("star", 1, 2, 30, 40)]}, line])
    with pytest.raises(DataError) as error:
        dataset(folder, "b.jsonl")
    assert said in str(error.value)
    data = dataset(folder, "b.jsonl", invalid="skip")
    assert (len(data), [flaw.kind for flaw in data.report]) == (1, ["unreadable line"])


def test_its_config_has_no_problem_and_trains(folder: Path) -> None:
    """``core-run`` in this process; its last word is the exit code."""
    work = ["--work-dir", str(folder / "run"), "--device", "cpu", "--set", "train.epochs=2"]
    for words in (["check", CONFIG], ["train", CONFIG, *work]):
        with pytest.raises(SystemExit) as exit_:
            main([*words, "--set", f"vars.data_root={folder.as_posix()}"])
        assert exit_.value.code == 0
    assert (folder / "run" / "checkpoints" / "last.pt").is_file()
