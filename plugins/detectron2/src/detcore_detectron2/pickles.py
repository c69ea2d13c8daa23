"""Pickles of numpy arrays in plain containers, read without running anything that they name.

A pickle is a program that calls what it names. Here it may name what Python and numpy write for arrays; these names
stand for classes of this module that take down what they are given, and any other name ends the reading. numpy sees a
type of numbers, a shape and bytes, and no more: its own way back from a pickle trusts what it is told.

Each of these classes has ``__setstate__``, so that a pickle cannot write on the class itself.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detcore.errors import CheckpointError, one_line
from numpy.typing import NDArray

NUMBERS = re.compile(r"[<>=|]?([fiu][1248]|b1)")
"""Codes of the types of numbers that are read: no objects, no records, no text."""


class Refused(Exception):
    """The pickle names something that is not read."""


class NumberType:
    """In place of ``numpy.dtype``."""

    def __init__(self, code: str, *flags: Any) -> None:
        if not isinstance(code, str) or not NUMBERS.fullmatch(code):
            raise Refused(f"numpy.dtype({code!r})")
        self.code = code.lstrip("<>=|")
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def array(self, data: Any, shape: Any, order: str) -> NDArray[Any]:
        """The numbers of ``data``. Raises ValueError where they are more or fewer than the shape's."""
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(data, bytes | bytearray):  # bytes(10**12) would ask for a terabyte
            raise Refused("an array without bytes")
        sides = tuple(int(side) for side in shape)
        numbers = np.frombuffer(data, np.dtype(self.order + self.code))
        if min(sides, default=0) < 0 or math.prod(sides) != len(numbers):
            raise ValueError(f"{len(numbers)} numbers for the shape {sides}")
        return numbers.astype(self.code).reshape(sides, order="F" if order == "F" else "C")


def numbers_of(given: Any) -> NumberType:
    """``given``, where it says a type of numbers. Raises Refused: it does not."""
    if not isinstance(given, NumberType):
        raise Refused("an array without a type of numbers")
    return given


class Array:
    """In place of ``_reconstruct``, which makes an empty array; the numbers follow as its state."""

    value: NDArray[Any] | None = None
    """None until there are numbers; a pickle can make one without asking ``__init__``."""

    def __init__(self, *ignored: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, numbers, fortran, data = state
        self.value = numbers_of(numbers).array(data, shape, "F" if fortran else "C")


class Buffered(Array):
    """In place of ``_frombuffer``, which makes an array of numbers at once."""

    def __init__(self, data: Any, numbers: Any, shape: Any, order: str) -> None:
        super().__init__()
        self.value = numbers_of(numbers).array(data, shape, order)


class Scalar(Array):
    """In place of ``scalar``, which makes one number."""

    def __init__(self, numbers: Any, data: Any) -> None:
        super().__init__()
        self.value = numbers_of(numbers).array(data, (), "C")


class ArrayType:
    """In place of ``numpy.ndarray``, which is named and not called."""

    def __init__(self, *ignored: Any) -> None:
        raise Refused("numpy.ndarray()")

    def __setstate__(self, state: Any) -> None:
        raise Refused("numpy.ndarray()")


class Names(dict[Any, Any]):
    """In place of ``OrderedDict``; what stands beside its items (torch's ``_metadata``) is left out."""

    def __setstate__(self, state: Any) -> None:
        pass


class Encoded:
    """In place of ``_codecs.encode``, as which old pickles write bytes: text whose characters are the bytes."""

    def __new__(cls, text: str, encoding: str) -> Any:
        """The bytes."""
        if encoding != "latin1":
            raise Refused(f"_codecs.encode(..., {encoding!r})")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        raise Refused("_codecs.encode")


class NoBytes:
    """In place of ``bytes``, as which old pickles write none: ``bytes()``."""

    def __new__(cls) -> Any:
        """No bytes."""
        return b""

    def __setstate__(self, state: Any) -> None:
        raise Refused("bytes")


STAND_INS: Mapping[str, Any] = {
    "collections.OrderedDict": Names,
    "_codecs.encode": Encoded,
    "builtins.bytes": NoBytes,
    "numpy.dtype": NumberType,
    "numpy.ndarray": ArrayType,
    **{
        f"numpy.{core}.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in (
            ("multiarray._reconstruct", Array),
            ("multiarray.scalar", Scalar),
            ("numeric._frombuffer", Buffered),
        )
    },
}
"""What a pickle may name, and what it gets."""


class Reader(pickle.Unpickler):
    """Gives out :data:`STAND_INS` and nothing else."""

    def find_class(self, module: str, name: str, /) -> Any:
        """The stand-in of a name. Raises Refused: it has none."""
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as Python 2 called it
        if path not in STAND_INS:
            raise Refused(path if path.isprintable() else ascii(path))
        return STAND_INS[path]


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a pickled dictionary, or of the one in it at ``model`` or ``blobs``, by name.

    Raises:
        CheckpointError: There is no such file, it names what is not read, it is damaged, or it holds no array.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            content = Reader(file, encoding="latin1").load()
    except OSError as error:
        raise CheckpointError(where, f"cannot be read: {error.strerror}") from error
    except Refused as error:
        found = f"names {error}, which is not run"
        raise CheckpointError(where, found, "Only numpy's arrays of numbers in plain containers are read.") from error
    except Exception as error:  # a damaged pickle raises a dozen kinds
        raise CheckpointError(where, f"is no pickle of arrays: {one_line(error)}") from error
    for key in ("model", "blobs"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    arrays = {name: each for name, each in items if isinstance(name, str) and isinstance(each, Array)}
    if not arrays:
        raise CheckpointError(where, "holds no arrays by name")
    return {name: _numbers(each, name, where) for name, each in arrays.items()}


def _numbers(array: Array, name: str, where: str) -> NDArray[Any]:
    if array.value is None:
        raise CheckpointError(where, f"is no pickle of arrays: {name!r} has no numbers")
    return array.value
