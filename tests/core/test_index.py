"""Arrays are made once, shared, and made anew exactly when their source says something else."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detcore.errors import DataError
from detcore.index import Writer, indexed


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "index"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.txt"
    path.write_text("1 2 3")
    return path


class Counting:
    """Makes two arrays of the numbers in a file, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, source: Path, writer: Writer) -> None:
        self.times += 1
        numbers = np.array([*map(int, source.read_text().split())])
        for number in numbers:
            writer.add("pairs", np.array([[number, -number]], np.int16))
        writer.add("none", np.zeros((0, 4), np.float32))
        writer.meta["sum"] = int(numbers.sum())


def test_pieces_become_one_array_and_come_back_from_the_cache(source: Path) -> None:
    make = Counting()
    for _ in range(2):
        arrays = indexed(source, "pairs 1", make)
        assert arrays["pairs"].tolist() == [[1, -1], [2, -2], [3, -3]]
        assert arrays["pairs"].dtype == np.int16
        assert (arrays["none"].shape, arrays.meta) == ((0, 4), {"sum": 6})
        assert {*arrays} == {"pairs", "none"}
    assert make.times == 1
    with pytest.raises(ValueError, match="read-only"):
        arrays["pairs"][0] = 0


def test_what_changed_is_made_anew_and_what_was_only_touched_is_not(source: Path, cache: Path) -> None:
    make = Counting()
    first = indexed(source, "pairs 1", make)
    os.utime(source, (1, 1))
    assert indexed(source, "pairs 1", make)["pairs"].tolist() == first["pairs"].tolist()
    assert make.times == 1
    source.write_text("1 2 4")
    assert indexed(source, "pairs 1", make).meta == {"sum": 7}
    assert make.times == 2
    assert first["pairs"].tolist() == [[1, -1], [2, -2], [3, -3]], "who has mapped the old ones keeps them"
    assert len([*cache.glob("*/*/header.json")]) == 1, "the old ones are gone"
    indexed(source, "pairs 2", make)
    assert make.times == 3


def test_a_pickle_is_a_path(source: Path) -> None:
    make = Counting()
    source.write_text(" ".join(map(str, range(5000))))
    arrays = indexed(source, "pairs 1", make)
    text = pickle.dumps(arrays)
    assert len(text) < 1000
    assert pickle.loads(text)["pairs"].tolist() == arrays["pairs"].tolist()
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer)['pairs'][:, 0].sum())"
    done = subprocess.run([sys.executable, "-c", script], input=text, capture_output=True, check=True)
    assert int(done.stdout) == sum(range(5000))


def test_a_cut_off_or_killed_write_is_never_used(source: Path, cache: Path) -> None:
    make = Counting()
    indexed(source, "pairs 1", make)
    (folder,) = (path.parent for path in cache.glob("*/*/header.json"))
    data = folder / "0.bin"
    data.write_bytes(data.read_bytes()[:5])
    assert len(indexed(source, "pairs 1", make)["pairs"]) == 3
    (home,) = cache.iterdir()
    (home / ".making-killed").mkdir()
    (home / ".making-killed" / "0.bin").write_bytes(b"1")
    source.write_text("7")
    assert indexed(source, "pairs 1", make).meta == {"sum": 7}
    assert make.times == 3
    assert not (home / ".making-killed").exists()


def test_one_that_fails_leaves_nothing(source: Path, cache: Path) -> None:
    def broken(path: Path, writer: Writer) -> None:
        writer.add("a", np.zeros(3))
        raise DataError(str(path), "is broken")

    with pytest.raises(DataError, match="is broken"):
        indexed(source, "a", broken)
    assert [each.name for each in cache.glob("*/*")] == ["lock"]

    def mixed(path: Path, writer: Writer) -> None:
        writer.add("a", np.zeros(3))
        writer.add("a", np.zeros((3, 2)))

    with pytest.raises(TypeError, match=r"a: a piece of float64 \(2,\) behind one of float64 \(\)"):
        indexed(source, "a", mixed)


def test_without_a_cache_they_live_as_long_as_the_process(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DETCORE_CACHE", str(tmp_path / "file"))  # no folder can be made in it
    arrays = indexed(source, "pairs 1", Counting())
    assert arrays["pairs"].tolist() == [[1, -1], [2, -2], [3, -3]]
    folder = arrays.folder
    assert folder.is_dir()
    del arrays
    assert not folder.exists()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"numbers.txt: its index cannot be written: .*\. Make room in"):
        indexed(source, "pairs 1", Counting())


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.txt: cannot be read: No such file or directory\. Check the path\."):
        indexed(tmp_path / "none.txt", "pairs 1", Counting())


SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np
from detcore.index import indexed

def make(source, writer):
    with open(sys.argv[2], "a") as made:
        made.write("x")
    time.sleep(0.5)
    writer.add("a", np.arange(10))

print(indexed(Path(sys.argv[1]), "a", make)["a"].sum())
"""


def test_of_processes_that_start_together_one_makes_them(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    command: list[Any] = [sys.executable, "-c", SCRIPT, source, made]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in started] == ["45"] * 3
    assert made.read_text() == "x"


def test_other_files_make_it_anew_by_what_is_known_of_them(source: Path, tmp_path: Path) -> None:
    make, others = Counting(), [tmp_path / "a.txt", str(tmp_path / "b.txt")]

    def after(change: str) -> tuple[str, int]:
        indexed(source, "pairs 1", make, others)
        return change, make.times

    assert after("a first time; both are missing") == ("a first time; both are missing", 1)
    assert after("nothing") == ("nothing", 1)
    others[0].write_text("x")
    assert after("one comes") == ("one comes", 2)
    os.utime(source, ns=(5, 5))
    assert after("the source is touched") == ("the source is touched", 2)
    os.utime(others[0], ns=(5, 5))
    assert after("the other is touched: its content is not asked for")[1] == 3
    others.reverse()
    assert after("other others")[1] == 4


def test_a_source_may_be_a_folder(tmp_path: Path) -> None:
    folder, times = tmp_path / "folder", []
    folder.mkdir()

    def make(source: Path, writer: Writer) -> None:
        times.append(source)
        writer.meta["files"] = sorted(path.name for path in source.iterdir())

    assert indexed(folder, "names", make, [folder / "a"]).meta == {"files": []}
    (folder / "a").write_text("")
    assert indexed(folder, "names", make, [folder / "a"]).meta == {"files": ["a"]}
    os.utime(folder, ns=(5, 5))
    assert indexed(folder, "names", make, [folder / "a"]).meta == {"files": ["a"]}
    assert times == [folder] * 3
