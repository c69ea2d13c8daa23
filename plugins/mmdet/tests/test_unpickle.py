"""Files of torch are read as torch reads them, in both formats, and nothing that they name is run."""

from __future__ import annotations

import codecs
import collections
import contextlib
import copyreg
import functools
import io
import operator
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmdet_files
import numpy as np
import pytest
import torch
from detcore.errors import CheckpointError
from detcore_mmdet.checkpoint import Checkpoint, read_checkpoint
from detcore_mmdet.unpickle import STAND_INS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["archive", "pickles"])
STATE = {
    "a.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
    "half": torch.tensor([0.5, -2.0]).half(),
    "brain": torch.tensor([1.5]).bfloat16(),
    "counter": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "part": torch.arange(10.0)[4:8:2],
    "trained": nn.Parameter(torch.ones(2)),
}


def same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and torch.equal(ours, theirs)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Checkpoint]:
    def reading(content: bytes) -> Checkpoint:
        (tmp_path / "x.pth").write_bytes(content)
        return read_checkpoint(tmp_path / "x.pth")

    return reading


def saved(content: Any, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def around(program: bytes, zipped: bool = True) -> bytes:
    """A file of torch whose content is that pickle."""
    whole = io.BytesIO(saved({}, zipped))
    if not zipped:
        for _ in range(3):
            pickle.load(whole)
        head = whole.getvalue()[: whole.tell()]
        return head + program + pickle.dumps([], protocol=2)
    out = io.BytesIO()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, program if name.endswith("data.pkl") else old.read(name))
    return out.getvalue()


# ------------------------------------------------------------------------------------------------------- what is read


@FORMATS
def test_tensors_come_back_as_they_were(read: Any, zipped: bool) -> None:
    for content in (STATE, {"state_dict": STATE}, {"state_dict": collections.OrderedDict(STATE), "meta": {}}):
        found = read(saved(content, zipped))
        assert found.state.keys() == STATE.keys()
        assert [name for name, value in STATE.items() if not same(found.state[name], value.detach())] == []
    assert (found.classes, found.epoch, found.iteration, found.version, found.config) == (None,) * 5


@FORMATS
def test_what_3x_writes(tmp_path: Path, zipped: bool) -> None:
    mmdet_files.save(mmdet_files.of_3x(STATE), tmp_path / "x.pth", zipped=zipped)
    found = read_checkpoint(tmp_path / "x.pth")
    assert [*found.state] == [*STATE]
    assert (found.classes, found.epoch, found.iteration) == (["a", "b", "c"], 12, 87960)
    assert (found.version, found.config) == (None, "model = dict(type='RetinaNet')")
    assert found.ignored == ["message_hub", "optimizer"]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@FORMATS
def test_every_protocol_that_torch_writes(tmp_path: Path, zipped: bool, protocol: int) -> None:
    mmdet_files.save(mmdet_files.of_3x(STATE), tmp_path / "x.pth", zipped=zipped, protocol=protocol)
    found = read_checkpoint(tmp_path / "x.pth")
    assert [name for name, value in STATE.items() if not same(found.state[name], value.detach())] == []
    assert found.classes == ["a", "b", "c"]


@FORMATS
def test_what_2x_writes(read: Any, zipped: bool) -> None:
    found = read(saved(mmdet_files.of_2x(STATE), zipped))
    assert (found.classes, found.epoch, found.iteration) == (["a", "b", "c"], 3, 9)
    assert (found.version, found.config, found.ignored) == ("2.28.0", "model = dict()", [])


@FORMATS
def test_plain_things_of_python_are_read_past(read: Any, zipped: bool) -> None:
    import datetime
    import pathlib

    things = {
        "grouped": collections.defaultdict(list, a=[1]),
        "counted": collections.Counter("aab"),
        "queue": collections.deque([1, 2], maxlen=2),
        "set": {1, 2},
        "path": pathlib.PurePosixPath("/a"),
        "time": datetime.datetime(2020, 1, 2),
        "size": torch.Size([1, 2]),
        "type": torch.float32,
        "device": torch.device("cpu"),
        "array": np.arange(3),
    }
    assert [*read(saved({"state_dict": STATE, "meta": things}, zipped)).state] == [*STATE]


def test_tensors_of_one_storage_are_read_once(read: Any) -> None:
    whole = torch.arange(6.0)
    found = read(saved({"a": whole, "b": whole[2:]})).state
    assert found["a"].untyped_storage().data_ptr() == found["b"].untyped_storage().data_ptr()
    assert found["b"].tolist() == [2, 3, 4, 5]


def test_what_nobody_asks_for_may_be_damaged(read: Any) -> None:
    """Numbers of an optimizer are not read."""
    whole = saved({"state_dict": {"a": torch.ones(3)}, "optimizer": {"b": torch.full((3,), 7.0)}})
    numbers = np.full(3, 7.0, dtype="<f4").tobytes()
    assert whole.count(numbers) == 1
    assert read(whole.replace(numbers, b"x" * 12)).state["a"].tolist() == [1, 1, 1]


# ------------------------------------------------------------------------------------------------------ what is not run


class Naming:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


@FORMATS
@pytest.mark.parametrize(
    ("call", "arguments", "name"),
    [
        (os.system, ["touch {ran}"], f"{os.system.__module__}.system"),
        (eval, ["open({ran!r}, 'w')"], "builtins.eval"),
        (exec, ["open({ran!r}, 'w')"], "builtins.exec"),
        (open, ["{ran}", "w"], "io.open"),
        (__import__, ["os"], "builtins.__import__"),
        (getattr, [{}, "clear"], "builtins.getattr(..., 'clear')"),
        (functools.partial, [os.system], "functools.partial"),
        (operator.attrgetter, ["system"], "operator.attrgetter"),
        (operator.methodcaller, ["system", "touch {ran}"], "operator.methodcaller"),
        (torch.storage._load_from_bytes, [b"..."], "torch.storage._load_from_bytes"),
        (torch.load, ["{ran}"], "torch.serialization.load"),
        (torch.jit.load, ["{ran}"], "torch.jit._serialization.load"),
        (np.load, ["{ran}", None, True], "numpy"),
        (codecs.decode, [b"6f73", "hex"], "_codecs.decode"),
        (codecs.encode, ["a", "zip"], "_codecs.encode(..., 'zip')"),
        (list, ["abc"], "a call of builtins.list"),
        (nn.Linear, [1, 1], "torch.nn.modules.linear.Linear"),
        (type, ["X", (), {}], "builtins.type"),
        (collections.namedtuple, ["x", "a"], "collections.namedtuple"),
    ],
)
def test_what_a_pickle_names_is_refused_and_not_run(
    tmp_path: Path, zipped: bool, call: Any, arguments: list[Any], name: str
) -> None:
    ran = tmp_path / "ran"
    evil = Naming(call, *(each.format(ran=str(ran)) if isinstance(each, str) else each for each in arguments))
    for content in ({"state_dict": {**STATE, "x": evil}}, {"state_dict": STATE, "meta": {"x": evil}}):
        (tmp_path / "x.pth").write_bytes(saved(content, zipped))
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(tmp_path / "x.pth")
        assert str(caught.value).startswith(f"{tmp_path / 'x.pth'}: names {name}")
        assert "which is not run. Only tensors, plain values and MMDetection's own records are; if you trust" in str(
            caught.value
        )
        assert "\n" not in str(caught.value)
    assert not ran.exists()


HISTORY = b"cmmengine.logging.history_buffer\nHistoryBuffer\n"
FLOATS = b"ctorch\nFloatStorage\n"
NUMBERS = b"(U\x07storage" + FLOATS + b"U\x010U\x03cpuK\x01tQ"
"""A storage of one number, which the file does not hold."""


def tensor(
    storage: bytes, offset: bytes = b"K\x00", shape: bytes = b"K\x01\x85", strides: bytes = b"K\x01\x85"
) -> bytes:
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"\x89)tR"


@FORMATS
@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cbuiltins\ngetattr\n(cos\nsystem\nU\x01xtR.", "names os.system, which is not run"),
        (b"cbuiltins\ngetattr\n(" + HISTORY + b"U\x08__init__tR.", "names builtins.getattr(..., '__init__')"),
        (b"cbuiltins\ngetattr\n(cnumpy\ndtype\nU\x01xtR.", "names builtins.getattr(..., 'x')"),
        (b"\x8c\x02os\x8c\x06system\x93.", "names os.system"),
        (b"\x8c\x02os\x8c\x04a\x1b\nb\x93.", r"names 'os.a\x1b\nb'"),
        (b"\x8c\x20mmengine.logging.history_buffer\x8c\x16HistoryBuffer.__init__\x93.", "cut short or damaged"),
        (b"\x8c\x1fmmengine.logging.history_buffer\x8c\x16HistoryBuffer.__init__\x93.", "names mmengine.logging."),
        (b"(ios\nsystem\n.", "names os.system"),
        (b"(cos\nsystem\no.", "names os.system"),
        (b"U\x011Q.", "names something that lies outside the pickle and is no storage"),
        (b"P1\n.", "names something that lies outside the pickle and is no storage"),
        (
            b"(U\x06moduleccollections\nOrderedDict\nU\x01aU\x01bK\x00tQ.",
            "names something that lies outside the pickle",
        ),
        (b"(U\x07storageccollections\nOrderedDict\nU\x010U\x03cpuK\x01tQ.", "names a storage of no known kind"),
        (b"(U\x07storage" + FLOATS + b"K\x00U\x03cpuK\x01tQ.", "names a storage of no known kind"),
        (b"(U\x07storage" + FLOATS + b"U\x010U\x03cpuU\x011tQ.", "'1' for a number of things"),
        (b"(U\x07storage" + FLOATS + b"U\x010U\x03cpuJ\xff\xff\xff\xfftQ.", "-1 for a number of things"),
        (NUMBERS + b"0(U\x07storage" + FLOATS + b"U\x010U\x03cpuK\x02tQ.", "storage 0 is of 1 and of 2 numbers"),
        (b"(U\x07storagectorch\nQInt8Storage\nU\x010U\x03cpuK\x01tQ.", "names torch.QInt8Storage"),
        (tensor(b"K\x01") + b".", "names a tensor without a storage"),
        (tensor(NUMBERS, shape=b"J\xff\xff\xff\xff\x85") + b".", "-1 for a number of things"),
        (tensor(NUMBERS, shape=b"U\x019") + b".", "a shape that is no row of numbers"),
        (tensor(NUMBERS, shape=b"K\x01K\x01\x86") + b".", "2 sides and 1 strides"),
        (tensor(NUMBERS) + b"}b.", "names a state of a tensor"),
        (b"ctorch._utils\n_rebuild_parameter\n(K\x01tR.", "names a parameter without a tensor"),
        (FLOATS + b")R.", "TypeError"),
        (FLOATS + b"}b.", "names a state of a type of storages"),
        (NUMBERS + b"}b.", "names a state of a storage"),
        (b"\x82\x01.", "names a class by the number 1, which is not run"),
        (b"N" + b"r\xff\xff\xff\x7f.", "remembers its part 2 as number 2147483647"),
        (b"\x8e" + struct.pack("<Q", 1 << 40) + b".", "ValueError"),
        (b"\x96" + struct.pack("<Q", 1 << 40) + b".", "ValueError"),
        (b"K\x01.", "holds no weights"),
        (b"].", "holds no weights"),
        (b"}.", "holds no weights"),
    ],
)
def test_tricks_of_a_pickle(read: Any, zipped: bool, program: bytes, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(around(b"\x80\x02" + program, zipped))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"])
def test_registered_classes_have_no_way_in(read: Any, tmp_path: Path, code: bytes) -> None:
    """Even where another pickle of this process has left what the number stands for in the cache."""
    command = f"touch {tmp_path / 'ran'}".encode()
    program = b"\x80\x02" + code + b"T" + struct.pack("<i", len(command)) + command + b"\x85R."
    copyreg.add_extension(os.system.__module__, "system", 1)
    try:
        assert pickle.loads(b"\x80\x02\x82\x01.") is os.system
        with pytest.raises(CheckpointError, match="names a class by the number 1, which is not run"):
            read(around(program))
        assert not (tmp_path / "ran").exists()
    finally:
        copyreg.remove_extension(os.system.__module__, "system", 1)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("path", sorted(STAND_INS))
@pytest.mark.parametrize("state", [b"}U\x01xK\x01s", b"(N}U\x01xK\x01stt", b"N}U\x01xK\x01s\x86"])
def test_a_pickle_cannot_write_on_what_it_is_given(read: Any, path: str, state: bytes) -> None:
    before = {name: {*getattr(each, "__dict__", {})} for name, each in STAND_INS.items()}
    module, _, name = path.rpartition(".")
    with pytest.raises(CheckpointError):
        read(around(b"\x80\x02c" + f"{module}\n{name}\n".encode() + state + b"b."))
    assert {name: {*getattr(each, "__dict__", {})} for name, each in STAND_INS.items()} == before


@pytest.mark.parametrize("path", sorted(STAND_INS))
@pytest.mark.parametrize("key", ["__class__", "__dict__", "__setstate__", "keys", "x"])
def test_a_state_of_an_object_changes_nothing(read: Any, path: str, key: str) -> None:
    """What is made of a name either takes no state or leaves it out."""
    module, _, name = path.rpartition(".")
    made = b"c" + f"{module}\n{name}\n".encode() + b")\x81"
    word = b"U" + bytes([len(key)]) + key.encode()
    state = b"}" + word + b"cos\nsystem\ns" if key == "x" else b"}" + word + b"}s"
    program = b"\x80\x02}U\x01a" + made + state + b"bs."
    with pytest.raises(CheckpointError, match=r"names|holds no weights|damaged"):
        read(around(program))


# ------------------------------------------------------------------------------------------------------ what is damaged


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is not a checkpoint"),
        (b"\n <!DOCTYPE html><html>404</html>", "is a web page, not a checkpoint. Download it again."),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS, not a checkpoint."),
        (b"PK\x03\x04", "is cut short or damaged: BadZipFile"),
        (saved(STATE)[:-100], "is cut short or damaged: BadZipFile"),
        (saved(STATE, zipped=False)[:-3], "is cut short or damaged: ValueError: storage"),
        (saved(STATE, zipped=False)[:200], "is cut short or damaged: "),
        (pickle.dumps({"a": 1}), "is cut short or damaged: ValueError: a pickle, but not torch's"),
        (saved([STATE]), "holds no weights"),
        (saved({"state_dict": {}}), "holds no weights"),
        (saved({"state_dict": {"a": 1}, "meta": STATE}), "holds no weights"),
    ],
)
def test_what_is_no_checkpoint_is_said_in_one_line(read: Any, content: bytes, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth: does not exist"):
        read_checkpoint(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="is a folder, not a file"):
        read_checkpoint(tmp_path)


def rewritten(change: Callable[[zipfile.ZipFile, str, bytes], None]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(4)}))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            change(new, name, old.read(name))
    return out.getvalue()


@pytest.mark.parametrize(
    ("entry", "replaced", "message"),
    [
        ("data/0", b"1234", "a: ValueError: 4 bytes for 4 numbers of torch.float32"),
        ("data/0", None, "a: ValueError: there is no data/0"),
        ("data.pkl", None, "ValueError: an archive without data.pkl"),
        ("byteorder", b"big", "ValueError: its numbers are big-endian, those of this machine are not"),
    ],
)
def test_an_archive_that_does_not_fit_together(read: Any, entry: str, replaced: bytes | None, message: str) -> None:
    def change(new: zipfile.ZipFile, name: str, data: bytes) -> None:
        if not name.endswith(entry):
            new.writestr(name, data)
        elif replaced is not None:
            new.writestr(name, replaced)

    with pytest.raises(CheckpointError) as caught:
        read(rewritten(change))
    assert message in str(caught.value)


def test_an_archive_larger_than_its_file_is_not_unpacked(read: Any) -> None:
    def compress(new: zipfile.ZipFile, name: str, data: bytes) -> None:
        new.writestr(name, b"0" * 10**6 if name.endswith("data/0") else data, zipfile.ZIP_DEFLATED)

    with pytest.raises(CheckpointError, match="a compressed archive, which torch never writes"):
        read(rewritten(compress))


def test_damaged_numbers_are_noticed(read: Any) -> None:
    whole, numbers = saved({"a": torch.full((4,), 7.0)}), np.full(4, 7.0, dtype="<f4").tobytes()
    with pytest.raises(CheckpointError, match="is cut short or damaged: a: BadZipFile: Bad CRC-32"):
        read(whole.replace(numbers, b"x" * 16))


def test_a_window_beyond_its_storage_is_an_error(read: Any) -> None:
    for shape in ((5,), (1 << 40, 1 << 40)):
        place = {"a": torch.ones(4)}
        content = saved(place)
        assert content.count(b"K\x04\x85") == 1
        sides = b"(" + b"".join(b"\x8a\x06" + side.to_bytes(6, "little") for side in shape) + b"t"
        strides = b"(" + b"K\x00" * len(shape) + b"t"

        def change(
            new: zipfile.ZipFile, name: str, data: bytes, sides: bytes = sides, strides: bytes = strides
        ) -> None:
            new.writestr(name, data.replace(b"K\x04\x85", sides).replace(b"K\x01\x85", strides))

        with pytest.raises(CheckpointError, match=r"a: ValueError: the shape \(.*\) reaches beyond 4 numbers"):
            read(rewritten(change))


@FORMATS
@settings(max_examples=150, deadline=None)
@given(noise=st.binary(max_size=40), place=st.integers(0, 1000))
def test_any_bytes_give_tensors_or_an_error_for_the_user(
    tmp_path_factory: Any, zipped: bool, noise: bytes, place: int
) -> None:
    whole = saved({"state_dict": {"a": torch.ones(2)}, "meta": {"CLASSES": ("a",)}}, zipped)
    path = tmp_path_factory.getbasetemp() / "noise.pth"
    path.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    with contextlib.suppress(CheckpointError):
        read_checkpoint(path)
