"""Files of ``torch.save``, both formats: an archive (torch 1.6 and later), and pickles one after the other before it.

MMDetection publishes the models of its zoo in the older one. Numbers are read when a tensor is asked for, so that an
optimizer's, which nobody asks for, cost nothing.
"""

from __future__ import annotations

import io
import math
import mmap
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import torch
from detcore.errors import CheckpointError, one_line
from detcore_detectron2.pickles import Refused
from torch import Tensor

from detcore_mmdet.unpickle import Storage, Strided, unpickle

MAGIC = 0x1950A86A20F9469CFC6C
"""What the older format begins with, as a pickled number; the version of the format follows:"""
VERSION = 1001
SIZE = struct.Struct("<q")
"""Before the numbers of a storage: how many there are."""

READ = "Only tensors, plain values and MMDetection's own records are; if you trust the file, save its state_dict alone."
Numbers = Callable[[str], memoryview]
"""The bytes of a storage by its key."""


@attrs.frozen
class Saved:
    """What a file of ``torch.save`` holds.

    Attributes:
        where: The file.
        content: Plain values, and a :class:`Strided` for each tensor.
        numbers: The bytes of a storage.
    """

    where: str
    content: Any
    numbers: Numbers

    def tensor(self, place: Strided, name: str) -> Tensor:
        """The tensor called ``name``; those of one storage share its memory.

        Raises:
            CheckpointError: The file does not hold it.
        """
        try:
            return _tensor(place, self.numbers)
        except (ValueError, zipfile.BadZipFile) as error:
            raise CheckpointError(self.where, f"is cut short or damaged: {name}: {one_line(error)}") from error


def open_saved(path: Path) -> Saved:
    """Read what is in a file, but for the numbers of its tensors.

    Raises:
        CheckpointError: There is no such file, it names what is not read, it is damaged, or it is something else.
    """
    where = str(path)
    if not path.is_file():
        raise CheckpointError(where, "is a folder, not a file" if path.is_dir() else "does not exist")
    try:
        with path.open("rb") as file:
            head = file.read(512)
            _require_checkpoint(head, where)
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return Saved(where, *(_archive(path) if head.startswith(b"PK") else _pickles(content)))
    except OSError as error:
        raise CheckpointError(where, f"cannot be read: {error.strerror}") from error
    except Refused as error:
        raise CheckpointError(where, f"names {error}, which is not run", READ) from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle raises a dozen kinds
        raise CheckpointError(where, f"is cut short or damaged: {one_line(error)}") from error


def _require_checkpoint(head: bytes, where: str) -> None:
    """Say what a file is that is none, by how it begins."""
    if not head:
        raise CheckpointError(where, "is empty")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(where, "is a pointer of Git LFS, not a checkpoint", "Fetch the file with git lfs pull.")
    if head.lstrip().startswith(b"<"):
        raise CheckpointError(where, "is a web page, not a checkpoint", "Download it again.")
    if not head.startswith((b"PK", b"\x80")):
        raise CheckpointError(where, "is not a checkpoint")


def _archive(path: Path) -> tuple[Any, Numbers]:
    """The newer format: a pickle and the numbers of each storage, uncompressed, in one folder."""
    archive = zipfile.ZipFile(path)
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise ValueError("a compressed archive, which torch never writes")
    if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
        raise ValueError("an archive of more than the file holds")
    found = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise ValueError("an archive without data.pkl")
    folder = found[0].removesuffix("data.pkl")

    @cache
    def numbers(name: str) -> memoryview:
        if folder + name not in entries:
            raise ValueError(f"there is no {name}")
        return memoryview(bytearray(archive.read(folder + name)))

    if f"{folder}byteorder" in entries:
        _require_byte_order(bytes(numbers("byteorder")).decode())
    content, _ = unpickle(io.BytesIO(numbers("data.pkl")))
    return content, lambda key: numbers(f"data/{key}")


def _pickles(file: Any) -> tuple[Any, Numbers]:
    """The older format: pickles of a magic number, a version, the machine, the content, the keys; then the numbers."""
    magic, _ = unpickle(file)
    if magic != MAGIC:
        raise ValueError("a pickle, but not torch's")
    version, _ = unpickle(file)
    machine, _ = unpickle(file)
    if version != VERSION or not isinstance(machine, dict):
        raise ValueError(f"version {version!r} of the format")
    _require_byte_order("little" if machine.get("little_endian") else "big")
    content, storages = unpickle(file)
    keys, _ = unpickle(file)
    places = _places(file, keys, storages)

    @cache
    def numbers(key: str) -> memoryview:
        if key not in places:
            raise ValueError(f"no storage {key}")
        start, end = places[key]
        return memoryview(bytearray(file[start:end]))

    return content, numbers


def _places(file: Any, keys: Any, storages: Mapping[str, Storage]) -> dict[str, tuple[int, int]]:
    """From where to where the bytes of each storage lie. Raises ValueError: not all of them are there."""
    places = {}
    for key in keys:
        (count,) = SIZE.unpack(file.read(SIZE.size))
        storage = storages[key]
        if count != storage.count:
            raise ValueError(f"storage {key} has {count} numbers, not {storage.count}")
        start = file.tell()
        end = start + count * storage.dtype.itemsize
        if end > len(file):
            raise ValueError(f"storage {key} ends behind the file")
        file.seek(end)
        places[key] = start, end
    return places


def _require_byte_order(order: str) -> None:
    if order != sys.byteorder:
        raise ValueError(f"its numbers are {order}-endian, those of this machine are not")


def _tensor(place: Strided, numbers: Numbers) -> Tensor:
    """The window of a storage that ``place`` says. Raises ValueError: there is no such window."""
    storage = place.storage
    if storage is None:
        raise ValueError("has no numbers")
    content = numbers(storage.key)
    if len(content) != storage.count * storage.dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for {storage.count} numbers of {storage.dtype}")
    size = math.prod(place.shape)
    if not size:
        return torch.empty(place.shape, dtype=storage.dtype)
    steps = ((side - 1) * stride for side, stride in zip(place.shape, place.strides, strict=True))
    if max(size, place.offset + sum(steps) + 1) > storage.count:
        raise ValueError(f"the shape {place.shape} reaches beyond {storage.count} numbers")
    return torch.frombuffer(content, dtype=storage.dtype).as_strided(place.shape, place.strides, place.offset)
