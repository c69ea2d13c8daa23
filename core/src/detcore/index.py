"""Flat arrays, made once of a data set's annotations and shared by all processes that map them.

A file of annotations is read once and cached as a folder of arrays. A process maps what it touches, so that workers,
forked or spawned, and the runs that follow cost next to nothing. The cache is known by the source's path, size, time of
change and inode; where only these have changed, and not the content, it is kept. Of other files beside the source,
where there are thousands, the content is not asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import numpy as np
import numpy.typing as npt

from detcore.errors import DataError
from detcore.files import cache_folder

HEADER = "header.json"
Array = npt.NDArray[Any]


class Arrays(Mapping[str, Array]):
    """The arrays of a folder, mapped and read-only; pickled, it is the folder's path.

    Args:
        folder: As :class:`Writer` left it.
        keeper: What has to live as long as this does.

    Attributes:
        meta: What was noted beside the arrays, as JSON has it.

    Raises:
        ValueError: It is not whole.
    """

    def __init__(self, folder: Path, keeper: object = None) -> None:
        self.folder, self._keeper = folder, keeper
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        self.meta: Mapping[str, Any] = header["meta"]
        self._arrays = {
            name: _mapped(folder / file, dtype, shape) for name, (file, dtype, shape) in header["arrays"].items()
        }

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return Arrays, (self.folder,)


def _mapped(path: Path, dtype: str, shape: list[int]) -> Array:
    if not np.prod(shape):  # an empty file cannot be mapped
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", shape=tuple(shape)))


class Writer:
    """Takes arrays piece by piece, each into a file of its own.

    Args:
        folder: That it fills.

    Attributes:
        meta: To note beside the arrays; JSON has to have it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = {}
        self._files: dict[str, tuple[BinaryIO, np.dtype[Any], tuple[int, ...]]] = {}

    def add(self, name: str, piece: Array) -> None:
        """Append rows to the array of this name; all its pieces have the same type and rows of the same shape."""
        if name not in self._files:
            self._files[name] = (self.folder / f"{len(self._files)}.bin").open("wb"), piece.dtype, piece.shape[1:]
        file, dtype, shape = self._files[name]
        if (dtype, shape) != (piece.dtype, piece.shape[1:]):
            raise TypeError(f"{name}: a piece of {piece.dtype} {piece.shape[1:]} behind one of {dtype} {shape}")
        file.write(np.ascontiguousarray(piece).data)

    def close(self, **stamp: Any) -> None:
        """Write the header, which makes it whole."""
        arrays = {}
        for name, (file, dtype, shape) in self._files.items():
            rows = file.tell() // (dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
            file.close()
            arrays[name] = (Path(file.name).name, dtype.str, [rows, *shape])
        header = json.dumps({"meta": self.meta, "arrays": arrays, **stamp})
        (self.folder / HEADER).write_text(header, encoding="utf-8")


Make = Callable[[Path, Writer], None]


def indexed(source: Path, kind: str, make: Make, others: Iterable[str | Path] = ()) -> Arrays:
    """The arrays that ``make`` makes of a source, from the cache where they are there.

    Whoever comes while they are made waits. Where there is no room for a cache, they live as long as this process does.

    Args:
        source: The file of annotations, or a folder.
        kind: What is made of it, with the version of how: another kind is cached beside.
        make: Reads the source and adds arrays.
        others: What else it is made of, files and folders; they may be missing.

    Raises:
        DataError: The source cannot be read, or the arrays be written anywhere; of ``make``.
    """
    rest = _rest(others)
    home = cache_folder("index") / _short(str(source.resolve()), kind)
    wanted = home / _short(*map(str, _stamp(source)), *rest)
    if arrays := _whole(wanted):
        return arrays
    with suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(home / "lock"):
            return _whole(wanted) or _moved(home, wanted, source, rest) or _made(home, wanted, source, make, rest)
    try:
        keeper = tempfile.TemporaryDirectory(prefix="detcore-")
        folder = Path(keeper.name)
        _made(folder, folder / "index", source, make, rest)
        return Arrays(folder / "index", keeper)
    except OSError as error:
        found = f"its index cannot be written: {error.strerror or error}"
        raise DataError(str(source), found, f"Make room in {home.parent} or {tempfile.gettempdir()}.") from error


def _stamp(source: Path) -> tuple[int, int, int]:
    try:
        stat = source.stat()
    except OSError as error:
        raise DataError(str(source), f"cannot be read: {error.strerror or error}", "Check the path.") from error
    return _known(stat)


def _known(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _rest(others: Iterable[str | Path]) -> list[str]:
    """What other files are known by, as one text; none of no file."""
    known: list[str] = []
    for path in others:
        known += [str(path), "missing"]
        with suppress(OSError):
            known[-1] = str(_known(os.stat(path)))
    return [_short(*known)] if known else []


def _short(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogateescape")).hexdigest()[:20]


def _whole(folder: Path) -> Arrays | None:
    """The arrays of a folder, if they are all there."""
    try:
        return Arrays(folder)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _moved(home: Path, wanted: Path, source: Path, rest: Sequence[str]) -> Arrays | None:
    """Arrays that were made of a source of the same content."""
    headers = [path for path in home.glob(f"*/{HEADER}") if not path.parent.name.startswith(".")]
    content = _digest(source, rest) if headers else ""
    for header in headers:
        with suppress(OSError, ValueError, LookupError):
            if json.loads(header.read_text(encoding="utf-8"))["content"] == content and _whole(header.parent):
                return Arrays(header.parent.rename(wanted))
    return None


def _made(home: Path, wanted: Path, source: Path, make: Make, rest: Sequence[str]) -> Arrays:
    for old in home.glob(".making-*"):  # of a process that was killed: nobody else is here, who holds the lock
        shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".making-", dir=home))
    try:
        with ThreadPoolExecutor(1) as beside:  # hashing leaves the interpreter free
            content = beside.submit(_digest, source, rest)
            writer = Writer(folder)
            make(source, writer)
            writer.close(content=content.result(), source=str(source))
        outdated = [each for each in home.iterdir() if each.is_dir() and each != folder]
        shutil.rmtree(wanted, ignore_errors=True)  # it is there, and not whole
        folder.rename(wanted)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for old in outdated:
        if old != wanted:
            shutil.rmtree(old, ignore_errors=True)
    return Arrays(wanted)


def _digest(path: Path, rest: Sequence[str]) -> str:
    if path.is_dir():
        return _short(*map(str, _stamp(path)), *rest)
    with path.open("rb") as file:
        return " ".join([hashlib.file_digest(file, "sha256").hexdigest(), *rest])
