"""The README's format is one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from detcore import load_dataset
from detcore.testing import check_dataset
from PIL import Image

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_format_that_is_shown_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text("a.png,1,2,11,22,dog\n")
    (tmp_path / "my_format.py").write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_format import MyDataset

    dataset = MyDataset(source=f"{tmp_path}/boxes.csv", images=str(tmp_path))
    check_dataset(dataset)
    assert dataset[0][1]["boxes"].tolist() == [[1, 2, 11, 22]]
    assert dataset[0][1]["labels"].tolist() == [1]
    del sys.modules["my_format"]


def test_the_config_that_is_shown_builds_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images/a.png")
    (tmp_path / "boxes.csv").write_text("a.png,1,2,11,22,dog\n")
    (tmp_path / "my_format.py").write_text(blocks("python")[0])
    shown = blocks("toml")[0].replace("# exif", "exif")
    (tmp_path / "my.toml").write_text(f'data_root = "{tmp_path.as_posix()}"\n{shown}')
    dataset = load_dataset(str(tmp_path / "my.toml"), "train", sets=["train.batch_size=1"])
    assert (type(dataset).__name__, len(dataset)) == ("MyDataset", 1)
