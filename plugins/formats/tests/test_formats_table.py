from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from detcore.errors import ConfigError, DataError
from detcore.report import summarize
from detcore.testing import check_dataset
from detcore_formats.table import CSVDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

HEADER = "image,xmin,ymin,xmax,ymax,label\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("table")
    for name in ("a.png", "b.png", "c,d.png"):
        Image.new("RGB", (40, 30)).save(root / name)
    return root


def opened(folder: Path, text: str, **options: Any) -> CSVDataset:
    (folder / "boxes.csv").write_text(text)
    return CSVDataset(**{"source": f"{folder}/boxes.csv", "images": str(folder), **options})


def error(folder: Path, text: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(folder, text, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def boxes(dataset: CSVDataset, index: int) -> Any:
    return dataset.annotations(index)["boxes"].as_subclass(Tensor).tolist()


def test_a_sample_is_what_the_table_says(folder: Path) -> None:
    dataset = opened(
        folder, f'{HEADER}b.png,1,2,11,22,dog\na.png,0,0,40,30,cat\n\n"c,d.png",,,,,\nb.png,3,4,5.5,6,cat\n'
    )
    check_dataset(dataset)
    assert (dataset.classes, [*dataset.image_ids]) == (("cat", "dog"), ["b.png", "a.png", "c,d.png"])
    assert boxes(dataset, 0) == [[1, 2, 11, 22], [3, 4, 5.5, 6]]
    assert dataset[0][1]["labels"].tolist() == [1, 0]
    assert boxes(dataset, 2) == []
    assert dataset.report == []


def test_columns_are_called_as_the_config_says(folder: Path) -> None:
    text = "w;x;h;y;class;more;path\n10; 1;20;2;dog;z;a.png"
    columns = ["path", "x", "y", "w", "h", "class"]
    dataset = opened(folder, text, columns=columns, delimiter=";", box="size")
    assert boxes(dataset, 0) == [[1, 2, 11, 22]]
    dataset = opened(folder, "a.png,1,2,11,22,dog,more", header=False)
    assert (boxes(dataset, 0), dataset.classes) == ([[1, 2, 11, 22]], ("dog",))


FLAWS = {
    "unreadable line": {"a.png,1,2,3": "fewer fields than columns", ",1,2,3,4,cat": "names no image"},
    "object without name": {"a.png,1,2,3,4,": "it has no name"},
    "unknown class": {"a.png,1,2,3,4,cot": '"cot" is none of the classes (Did you mean "cat"?)'},
    "box not of four numbers": {
        "a.png,1,,3,4,cat": "the box ['1', '', '3', '4'] (left, top, right, bottom) is not one of four numbers"
    },
    "box not finite": {"a.png,1,2,nan,4,cat": "the box [1.0, 2.0, nan, 4.0] (left, top, right, bottom) is not finite"},
    "box without area": {"a.png,3,2,1,4,cat": "the box [3.0, 2.0, 1.0, 4.0] (left, top, right, bottom) has no area"},
}


@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind, lines in FLAWS.items() for line in lines])
def test_a_flaw_of_a_line_is_named_or_skipped_and_reported(folder: Path, kind: str, line: str) -> None:
    text, where = f"{HEADER}a.png,0,0,9,9,cat\n{line}\n", f"boxes.csv: line 3: {FLAWS[kind][line]}"
    wanted = f'{where}. Mend it, or set invalid = "skip": it will be dropped and reported.'
    assert error(folder, text, classes=["cat"]) == wanted
    dataset = opened(folder, text, classes=["cat"], invalid="skip")
    assert [str(flaw).replace(f"{folder}/", "") for flaw in dataset.report] == [f"{where}; dropped"]
    assert summarize(dataset.report) == {f"{kind}: dropped": 1}
    assert boxes(dataset, 0) == [[0, 0, 9, 9]]


def test_a_missing_image_is_named_with_its_table(folder: Path) -> None:
    assert error(folder, f"{HEADER}z.png,0,0,9,9,cat").startswith(
        "boxes.csv: image z.png: there is no file z.png. Mend it"
    )


def test_what_is_no_such_table_is_an_error(folder: Path) -> None:
    assert error(folder, "image,xmin,ymin,xmax,ymax,lable\n") == (
        'boxes.csv: line 1: no column is called "label". Did you mean "lable"?'
    )
    assert error(folder, "x,y") == 'boxes.csv: line 1: no column is called "image". It has x, y.'
    assert error(folder, "") == 'boxes.csv: line 1: no column is called "image". It has nothing.'
    assert error(folder, HEADER) == "boxes.csv: lists no image. Is it the right one?"
    long = "x" * 200_000
    assert error(folder, f"{HEADER}{long}") == (
        "boxes.csv: line 2: not a table: field larger than field limit (131072). Is it the right file?"
    )
    (folder / "latin.csv").write_bytes(b"image,xmin,ymin,xmax,ymax,label\n\xff")
    with pytest.raises(DataError, match=r"latin\.csv: not a table: not a text in UTF-8\. Is it the right file\?$"):
        CSVDataset(source=f"{folder}/latin.csv", images=str(folder))
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read: No such file or directory"):
        CSVDataset(source=f"{folder}/gone.csv", images=str(folder))


def test_options_that_cannot_be_are_errors(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(folder, HEADER, columns=["a", "b"])
    assert str(caught.value) == "CSVDataset: columns: 2 names. They are 6, as in image, xmin, ymin, xmax, ymax, label."
    with pytest.raises(ConfigError, match=r'^CSVDataset: delimiter: "\|\|"\. It is one character\.$'):
        opened(folder, HEADER, delimiter="||")


LINES = st.lists(
    st.sampled_from(
        ["a.png,1,2,3,4,cat", "b.png,1,2,3,4,dog", "b.png,5,6,9,9,cat", "b.png,,,,,", "a.png,1,x,3,4,cat",
         "b.png,1,2,3,4,", "a.png,9,2,3,4,cat", "b.png,1,2", "a.png,1,2,300,4,cat", ",1,2,3,4,cat", "gone.png,1,2,3,4,cat"]
    ),
    max_size=20,
)  # fmt: skip


@settings(deadline=None)
@given(LINES)
def test_every_line_is_used_or_reported(folder: Path, lines: list[str]) -> None:
    text = "\n".join([HEADER.strip(), "a.png,1,1,2,2,cat", *lines])
    dataset = opened(folder, text, invalid="skip")
    used = sum(len(dataset.annotations(index)["boxes"]) for index in range(len(dataset)))
    reported = {flaw.where for flaw in dataset.report if flaw.action == "dropped" and ": line " in flaw.where}
    gone = sum(line.startswith("gone") for line in lines)
    assert any("gone.png" in flaw.where for flaw in dataset.report) == (gone > 0)
    assert used + len(reported) + gone + lines.count("b.png,,,,,") == 1 + len(lines)
