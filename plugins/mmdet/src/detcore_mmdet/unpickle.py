"""Pickles of torch and MMDetection, read without running anything that they name.

A pickle is a program that calls what it names. Here it may name what torch, numpy, mmcv and MMEngine write into
checkpoints; these names stand for classes of this module (and of :mod:`detcore_detectron2.pickles`, for numpy's) that
take down what they are given. Any other name ends the reading and is told.

Each of these classes has ``__setstate__``, so that a pickle cannot write on the class itself, and a tensor is a note of
where its numbers lie until somebody asks for them: no function of torch is called by a pickle.
"""

from __future__ import annotations

import pickle
import pickletools
import re
from collections.abc import Iterable, Mapping
from typing import IO, Any

import torch
from detcore_detectron2.pickles import STAND_INS as ARRAYS
from detcore_detectron2.pickles import Names, Refused

PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
"""Opcodes that say at which number something is remembered: room is made up to that number."""


class Record:
    """In place of a class whose objects are of no use here: anything can be said about one, nothing is kept."""

    def __new__(cls, *ignored: Any, **also: Any) -> Record:
        """A record."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class History(Record):
    """In place of MMEngine's ``HistoryBuffer``: the losses of a run, and functions of its own by name."""


class Method:
    """In place of ``getattr``, as which old pickles write a function of a class: ``getattr(HistoryBuffer, "mean")``."""

    def __new__(cls, owner: Any, name: Any) -> Any:
        """Nothing; only functions of :class:`History` may be meant."""
        if owner is not History or not isinstance(name, str) or name.startswith("_"):
            raise Refused(f"builtins.getattr(..., {name!r})")

    def __setstate__(self, state: Any) -> None:
        raise Refused("builtins.getattr")


class Grouped(Names):
    """In place of ``defaultdict``, which makes values of a type; here it makes none."""

    def __init__(self, factory: Any = None, *items: Any) -> None:
        super().__init__(*items)


class Row(list[Any]):
    """In place of ``torch.Size`` and ``deque``."""

    def __init__(self, items: Iterable[Any] = (), *ignored: Any) -> None:
        super().__init__(items)

    def __setstate__(self, state: Any) -> None:
        pass


class Members:
    """In place of ``set`` and ``frozenset``."""

    def __new__(cls, items: Iterable[Any] = ()) -> Any:
        """A set that stays as it is."""
        return frozenset(items)

    def __setstate__(self, state: Any) -> None:
        raise Refused("builtins.set")


class Uncalled:
    """In place of a type that is named, as what a ``defaultdict`` makes, and not called."""

    def __new__(cls, *ignored: Any) -> Any:
        """Never: ``list("...")`` is a call."""
        raise Refused(f"a call of builtins.{cls.__name__}")

    def __setstate__(self, state: Any) -> None:
        raise Refused(f"builtins.{type(self).__name__}")


class Kind:
    """In place of a type of storages, ``torch.FloatStorage``: what numbers one holds."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state of a type of storages")


class Storage:
    """Numbers of one type that lie in the file: which ones, and how many there should be."""

    def __init__(self, key: str, dtype: torch.dtype, count: int) -> None:
        self.key, self.dtype, self.count = key, dtype, count

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state of a storage")


class Strided:
    """In place of ``_rebuild_tensor_v2``: a tensor as a window of a storage."""

    storage: Storage | None = None
    """None where a pickle made one without saying of what."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *ignored: Any) -> None:
        if not isinstance(storage, Storage):
            raise Refused("a tensor without a storage")
        self.offset, self.shape, self.strides = _count(offset), _counts(shape), _counts(strides)
        if len(self.shape) != len(self.strides):
            raise ValueError(f"{len(self.shape)} sides and {len(self.strides)} strides")
        self.storage = storage

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state of a tensor")


class Parameter:
    """In place of ``_rebuild_parameter``, which is given a tensor."""

    def __new__(cls, data: Any, *ignored: Any) -> Any:
        """The tensor."""
        if not isinstance(data, Strided):
            raise Refused("a parameter without a tensor")
        return data

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state of a parameter")


KINDS: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""Types of storages."""

HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"

STAND_INS: Mapping[str, Any] = {
    **ARRAYS,
    **{f"{home}.{name}": Kind(dtype) for home in ("torch", "torch.cuda") for name, dtype in KINDS.items()},
    **{f"torch.{name}": Record for name in ("float16", "float32", "float64", "int64", "bool")},
    **{f"builtins.{name}": type(name, (Uncalled,), {}) for name in ("bool", "dict", "float", "int", "list", "str")},
    "builtins.set": Members,
    "builtins.frozenset": Members,
    "builtins.getattr": Method,
    "collections.defaultdict": Grouped,
    "collections.Counter": Names,
    "collections.deque": Row,
    "datetime.datetime": Record,
    "datetime.timedelta": Record,
    "pathlib.PosixPath": Record,
    "pathlib.PurePosixPath": Record,
    "pathlib.WindowsPath": Record,
    "torch.Size": Row,
    "torch.device": Record,
    "torch._utils._rebuild_tensor": Strided,
    "torch._utils._rebuild_tensor_v2": Strided,
    "torch._utils._rebuild_parameter": Parameter,
    "addict.addict.Dict": Names,
    "mmcv.utils.config.ConfigDict": Names,
    "mmcv.utils.config.Config": Record,
    "mmengine.config.config.ConfigDict": Names,
    "mmengine.config.config.Config": Record,
    "mmengine.logging.message_hub.MessageHub": Record,
    HISTORY: History,
}
"""What a pickle may name, and what it gets."""


class Reader(pickle.Unpickler):
    """Gives out :data:`STAND_INS` and nothing else.

    Attributes:
        storages: Those that the pickle names, by key.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        """The stand-in of a name. Raises Refused: it has none."""
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as Python 2 called it
        if re.fullmatch(re.escape(HISTORY) + r"\.[a-z]\w*", path):  # a function of it, since protocol 4
            return Record
        if path not in STAND_INS:
            raise Refused(path if path.isprintable() else ascii(path))
        return STAND_INS[path]

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that the pickle means by ``pid``. Raises Refused: it means something else."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise Refused("something that lies outside the pickle and is no storage")
        _, kind, key, _, count, *view = pid
        if not isinstance(kind, Kind) or not isinstance(key, str) or any(each is not None for each in view):
            raise Refused("a storage of no known kind")
        storage = Storage(key, kind.dtype, _count(count))
        before = self.storages.setdefault(key, storage)
        if (before.dtype, before.count) != (storage.dtype, storage.count):
            raise ValueError(f"storage {key} is of {before.count} and of {storage.count} numbers")
        return before


def unpickle(file: Any) -> tuple[Any, Mapping[str, Storage]]:
    """What the pickle at the file's place holds, and the storages that it names; the file stands behind it then.

    Args:
        file: Has ``read``, ``readline``, ``seek`` and ``tell``, and gives no more than it holds.

    Raises:
        Refused: It names what is not read.
        Exception: It is damaged, in one of a dozen ways.
    """
    start = file.tell()
    _look_over(file)
    end = file.tell()
    file.seek(start)
    reader = Reader(file)
    content = reader.load()
    file.seek(end)
    return content, reader.storages


def _look_over(file: Any) -> None:
    """Read the pickle's words without doing what they say: each is whole, and none asks for memory or a short cut."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name.startswith("EXT"):  # a number for a class that this process knows, past ``find_class``
            raise Refused(f"a class by the number {argument}")
        if opcode.name in PUTS and not 0 <= int(argument or 0) <= number:
            raise ValueError(f"remembers its part {number} as number {argument}")


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} for a number of things")
    return value


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | Row):
        raise ValueError("a shape that is no row of numbers")
    return tuple(map(_count, values))
