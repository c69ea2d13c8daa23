"""Pickles are read as numpy wrote them, in every protocol, and nothing that they name is run."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detcore.errors import CheckpointError
from detcore_detectron2.pickles import STAND_INS, read_arrays
from hypothesis import given, settings
from hypothesis import strategies as st

ARRAYS = {
    "a": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "big": np.arange(5, dtype=">i4"),
    "half": np.array([[0.5, -2.0]], dtype=np.float16),
    "flags": np.array([True, False]),
    "bytes": np.arange(200, 256, dtype=np.uint8),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "scalar": np.array(3, dtype=np.int64),
    "number": np.float32(2.5),
}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[str, Any]]:
    def reading(content: bytes) -> dict[str, Any]:
        (tmp_path / "x.pkl").write_bytes(content)
        return read_arrays(tmp_path / "x.pkl")

    return reading


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict, lambda x: {"model": x, "__author__": "x", "n": [1]}])
def test_arrays_come_back_as_they_were(read: Any, protocol: int, wrap: Any) -> None:
    found = read(pickle.dumps(wrap(ARRAYS), protocol=protocol))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].shape == np.shape(array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(found[name], array)


def test_pickles_of_python_2_hold_bytes_as_text(read: Any) -> None:
    """As Caffe2's were written: protocol 2, whose strings are bytes."""
    numbers = np.array([1.5, -2.0], dtype=np.float32)
    content = b"\x80\x02}U\x07conv1_wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    content += (
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    content += b"\x89U" + struct.pack("B", 8) + numbers.tobytes() + b"tbs."
    assert read(content)["conv1_w"].tolist() == [1.5, -2.0]


class Naming:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_a_pickle_names_is_refused_and_not_run(read: Any, tmp_path: Path, protocol: int) -> None:
    ran = tmp_path / "ran"
    evil = {"a": ARRAYS["a"], "b": Naming(os.system, f"touch {ran}")}
    with pytest.raises(CheckpointError) as caught:
        read(pickle.dumps({"model": evil}, protocol=protocol))
    fix = "Only numpy's arrays of numbers in plain containers are read."
    assert str(caught.value) == f"{tmp_path / 'x.pkl'}: names {os.system.__module__}.system, which is not run. {fix}"
    assert not ran.exists()


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (np.array([{}, None], dtype=object), r"numpy\.dtype\('O8'\)"),
        (np.array(["text"]), r"numpy\.dtype\('U4'\)"),
        (np.zeros(2, dtype=[("a", "f4")]), r"numpy\.dtype\('V4'\)"),
        (Naming(eval, "1"), r"builtins\.eval"),
        (Naming(getattr, 1, "real"), r"builtins\.getattr"),
        (np.random.default_rng(0), r"numpy\.random\._pickle\.__generator_ctor"),
        (Naming(np.frombuffer, b"1234"), r"numpy\.frombuffer"),
        ({1, 2}, r"builtins\.set"),
    ],
)
def test_other_things_than_arrays_of_numbers_are_refused(read: Any, thing: Any, name: str) -> None:
    with pytest.raises(CheckpointError, match=f"names {name}, which is not run"):
        read(pickle.dumps({"a": thing}, protocol=2))


@pytest.mark.parametrize(
    "name", ["numpy\nndarray", "numpy\ndtype", "_codecs\nencode", "numpy.core.multiarray\n_reconstruct"]
)
@pytest.mark.parametrize("state", [b"}U\x01xK\x01s", b"(N}U\x01xK\x01stt", b"N}U\x01xK\x01s\x86"])
def test_a_pickle_cannot_write_on_what_it_is_given(read: Any, name: str, state: bytes) -> None:
    before = {path: {*vars(each)} for path, each in STAND_INS.items()}
    with pytest.raises(CheckpointError):
        read(b"\x80\x02c" + name.encode() + b"\n" + state + b"b.")
    assert {path: {*vars(each)} for path, each in STAND_INS.items()} == before


def test_codecs_are_not_called(read: Any) -> None:
    with pytest.raises(CheckpointError, match=r"names _codecs\.encode\(\.\.\., 'zip'\), which is not run"):
        read(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no pickle of arrays: EOFError"),
        (b"PK\x03\x04", "is no pickle of arrays: "),
        (pickle.dumps({"a": np.zeros(9)})[:-30], "is no pickle of arrays: "),
        (pickle.dumps({"a": 3}), "holds no arrays by name"),
        (pickle.dumps([np.zeros(3)]), "holds no arrays by name"),
    ],
)
def test_what_is_damaged_or_empty_is_said_in_one_line(read: Any, content: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_a_shape_that_does_not_fit_is_an_error(read: Any) -> None:
    content = pickle.dumps({"a": np.zeros(3, dtype=np.float32)}, protocol=2)
    assert content.count(b"K\x03\x85") == 1
    with pytest.raises(CheckpointError, match=r"ValueError: 3 numbers for the shape \(4,\)"):
        read(content.replace(b"K\x03\x85", b"K\x04\x85"))


@pytest.mark.parametrize("make", [b")\x81", b")R"])  # by __new__ alone, and by a call, both without a state
def test_an_array_without_numbers_is_an_error(read: Any, make: bytes) -> None:
    content = b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\n" + make + b"s."
    with pytest.raises(CheckpointError, match=r"x\.pkl: is no pickle of arrays: 'a' has no numbers"):
        read(content)


def test_a_number_of_bytes_is_not_made(read: Any) -> None:
    """``bytes(10**12)`` would be a terabyte of zeros."""
    numbers = b"cnumpy\ndtype\nU\x02f4\x85R"
    content = b"\x80\x02cnumpy.core.multiarray\nscalar\n" + numbers + b"\x8a\x06" + (10**12).to_bytes(6, "little")
    content += b"\x86R."
    with pytest.raises(CheckpointError, match="names an array without bytes, which is not run"):
        read(content)


def test_what_stands_beside_the_items_of_a_dictionary_is_left_out(read: Any) -> None:
    """As torch's state dicts have ``_metadata``."""
    state = collections.OrderedDict(a=ARRAYS["a"])
    state._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    assert read(pickle.dumps(state, protocol=2)).keys() == {"a"}


@pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\x00"])
def test_registered_classes_have_no_way_in(read: Any, code: bytes) -> None:
    """An extension code stands for a name that ``copyreg`` knows: it is refused as a name."""
    copyreg.add_extension("os", "system", 1)
    try:
        with pytest.raises(CheckpointError, match=r"names os\.system, which is not run"):
            read(b"\x80\x02" + code + b"U\x04true\x85R.")
    finally:
        copyreg.remove_extension("os", "system", 1)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("collections", "OrderedDict.__class__"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy", "dtype.__init__"),
        ("detcore_detectron2.pickles", "np.load"),
        ("builtins", "__import__"),
        ("__builtin__", "eval"),
    ],
)
def test_attributes_of_what_is_allowed_are_not(read: Any, module: str, name: str) -> None:
    """Protocol 4 names ``a.b`` of a module; only whole names of the list count."""
    words = b"".join(b"\x8c" + bytes([len(each)]) + each.encode() for each in (module, name))
    found = f"names {module.replace('__builtin__', 'builtins')}.{name}, which is not run"
    with pytest.raises(CheckpointError, match=re.escape(found)):
        read(b"\x80\x04" + words + b"\x93.")


def test_a_name_of_several_lines_is_told_in_one(read: Any) -> None:
    with pytest.raises(CheckpointError, match=re.escape(r"names 'os.a\x1b\nb', which is not run")) as caught:
        read(b"\x80\x04\x8c\x02os\x8c\x04a\x1b\nb\x93.")
    assert "\n" not in str(caught.value)


def test_persistent_ids_are_not_followed(read: Any) -> None:
    with pytest.raises(CheckpointError, match=r"is no pickle of arrays: UnpicklingError"):
        read(b"\x80\x02U\x01xQ.")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pkl: cannot be read: No such file or directory"):
        read_arrays(tmp_path / "gone.pkl")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 400))
def test_any_bytes_give_arrays_or_an_error_for_the_user(tmp_path_factory: Any, noise: bytes, place: int) -> None:
    whole = pickle.dumps({"a": ARRAYS["a"]}, protocol=2)
    path = tmp_path_factory.getbasetemp() / "noise.pkl"
    path.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    with contextlib.suppress(CheckpointError):
        read_arrays(path)
