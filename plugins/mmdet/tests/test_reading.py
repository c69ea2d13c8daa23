"""Configs of MMDetection, read and not run: each construct by a small file, its values worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detcore.errors import ConfigError
from detcore_mmdet.reading import read_config

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files below a folder, by name and text; gives the path of the last."""

    def files(*named: tuple[str, str] | str) -> Path:
        for each in named:
            name, text = ("config.py", each) if isinstance(each, str) else each
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return path

    return files


def test_literals_and_displays(write: Write) -> None:
    config = write(
        "a = [1, -2.5, 'x' 'y', None, True]\nb = (1, [2], {'k': (), 3: {}})\nc = {3, 1, 2}\nd = 1e-3; e: int = 4\nf: int\n"
    )
    assert read_config(config) == {
        "a": [1, -2.5, "xy", None, True],
        "b": (1, [2], {"k": (), 3: {}}),
        "c": [1, 2, 3],
        "d": 0.001,
        "e": 4,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dict(type='A', **dict(b=1))", {"type": "A", "b": 1}),
        ("dict(a=dict(x=1)) | dict(a=2)", {"a": 2}),
        ("dict({'a': 1}, b=2)", {"a": 1, "b": 2}),
        ("dict([('a', 1)])", {"a": 1}),
        ("{**dict(a=1), 'a': 2}", {"a": 2}),
        ("[*range(2), *(7, 8)]", [0, 1, 7, 8]),
        ("list(range(5, 0, -2))", [5, 3, 1]),
        ("tuple([1, 2]) + (3,)", (1, 2, 3)),
        ("[0] * 3 + 2 * [1]", [0, 0, 0, 1, 1]),
        ("2 ** 10 // 3 % 100", 41),
        ("0.01 / 8 * 2 - 1", -0.9975),
        ("2 ** -1", 0.5),
        ("1 < 2 <= 2 != 3 and not 5 in [1]", True),
        ("None or 'b' and 'c'", "c"),
        ("'x' if 1 > 2 else 'y'", "y"),
        ("None is None", True),
        ("[550.0 / x for x in [2, 5] if x > 2]", [110.0]),
        ("[(i, j) for i in range(2) for j in range(i + 1)]", [(0, 0), (1, 0), (1, 1)]),
        ("{f'stage.{i}.{n}': n for i, n in enumerate([3, 4])}", {"stage.0.3": 3, "stage.1.4": 4}),
        ("list(k for k, v in dict(a=1, b=2).items() if v > 1)", ["b"]),
        ("{len(x) for x in ('a', 'bb', 'cc')}", [1, 2]),
        ("f'{1 / 3:.2f}|{7:>3}|{\"a\"!r}|{None}|{3:{2}d}'", "0.33|  7|'a'|None| 3"),
        ("'%s_%03d%%' % ('a', 7)", "a_007%"),
        ("'%(a)s' % dict(a=1)", "1"),
        ("'{}-{b:>3}-{{}}'.format(1, b=2)", "1-  2-{}"),
        ("'{1}{0}'.format('a', 'b')", "ba"),
        ("'-'.join(['a', 'b']).upper()", "A-B"),
        ("' a,b '.strip().split(',')", ["a", "b"]),
        ("'abab'.replace('a', 'c')", "cbcb"),
        ("[1, 2, 3][-1] + [[4]][0][0]", 7),
        ("'abcdef'[1:-1:2]", "bd"),
        ("dict(a=dict(b=[1]))['a']['b'][0]", 1),
        ("[int('3'), float(2), str(1.5), bool([]), abs(-2), round(2.567, 1)]", [3, 2.0, "1.5", False, 2, 2.6]),
        ("[min(3, 1), max([1, 2]), sum([1, 2.5]), len('abc')]", [1, 2, 3.5, 3]),
        ("list(zip([1, 2], 'ab'))", [(1, "a"), (2, "b")]),
        ("list(reversed([1, 2]))", [2, 1]),
        ("[d.get('a', 0) for d in [dict(a=1), dict()]]", [1, 0]),
    ],
)
def test_expressions(write: Write, text: str, value: Any) -> None:
    got = read_config(write(f"x = {text}\n"))["x"]
    assert got == value
    assert type(got) is type(value)


def test_assignments_and_methods(write: Write) -> None:
    config = write(
        """
'''What stands here alone is a comment.'''
a = b = dict(c=1)
a['d'] = [1]
a['d'] += (2,)
a['d'][0] = 5
a['d'].append(3)
x, (y, *z) = 1, [2, 3, 4]
x += 10
a.update(e=6, c=0)
a.update(dict(f=dict(g=1)))
a.update(f=dict(h=2))
popped = a.pop('e')
h = a.copy()
del h['d'], z[0]
for i in range(2):
    if i:
        z.insert(0, i)
    else:
        pass
gone = 1
del gone
__hidden = 1
_kept = 2
"""
    )
    same = {"c": 0, "d": [5, 2, 3], "f": {"h": 2}}
    assert read_config(config) == {
        "a": same,
        "b": same,
        "x": 11,
        "y": 2,
        "z": [1, 4],
        "popped": 6,
        "h": {"c": 0, "f": {"h": 2}},
        "i": 1,
        "_kept": 2,
    }


def test_a_config_is_merged_over_its_bases(write: Write) -> None:
    config = write(
        ("base/a.py", "model = dict(type='A', neck=dict(x=1, y=[1, 2]), head=dict(type='H', z=dict(q=1)))\nlr = 1\n"),
        ("base/b.json", json.dumps({"data": {"batch": 2}, "_deprecation_": {}})),
        (
            "child.py",
            """
_base_ = ['base/a.py', './base/b.json']
model = dict(neck=dict(y=[3]), head=dict(_delete_=True, z=dict(r=2)), new=dict(_delete_=True, s=1))
lr = 2
custom_imports = dict(imports=['my.module'], allow_failed_imports=False)
""",
        ),
    )
    got = read_config(config)
    assert got == {
        "model": {"type": "A", "neck": {"x": 1, "y": [3]}, "head": {"z": {"r": 2}}, "new": {"s": 1}},
        "lr": 2,
        "data": {"batch": 2},
        "custom_imports": {"imports": ["my.module"], "allow_failed_imports": False},
    }
    assert list(got) == ["model", "lr", "data", "custom_imports"]


def test_a_mistake_has_its_line(write: Write) -> None:
    config = write("a = 1\nb = dict(\n    c=1,\n    d=open('x'))\n")
    with pytest.raises(ConfigError, match=r"config\.py:4: `open\(\.\.\.\)` is called\. A config is read, never run"):
        read_config(config)


# ----------------------------------------------------------------------------------------------------------- inheriting


def test_a_base_in_a_base_and_the_same_name_twice(write: Write) -> None:
    write(("a.py", "x = dict(p=1)\n"), ("b.py", "_base_ = './a.py'\nx = dict(q=2)\n"), ("c.py", "x = dict(r=3)\n"))
    assert read_config(write(("d.py", "_base_ = 'b.py'\nx = dict(s=4)\n"))) == {"x": {"p": 1, "q": 2, "s": 4}}
    with pytest.raises(
        ConfigError, match=r"e\.py:2: `x` is inherited from 'b\.py' and from '\./c\.py'\. Keep it in one\.$"
    ):
        read_config(write(("e.py", "y = 1\n_base_ = ['b.py', './c.py']\n")))


def test_what_is_inherited_can_be_read_and_changed(write: Write) -> None:
    config = write(
        (
            "a.py",
            "model = dict(neck=dict(x=[1, dict(y=2)]), head=dict(n=80, t=dict(u=1)), old=1)\nlr = 0.1\nhooks = 3\n",
        ),
        """
_base_ = './a.py'
detector = _base_.model
detector.pop('old')
none = detector.pop('nothing')
detector.head.update(n=1, t=dict(v=2))
detector['neck'].x[1].y += 40
copied = {{_base_.model.head}}
copied.n = 7
again = dict(steps=[{{ _base_.lr }}, '{{_base_.lr}}', 'lr {{_base_.lr}}'])
del _base_.model
_base_.lr *= 2
union = detector.head | dict(t=dict(w=3)) | dict(z=1)
model = dict(type='Wrapper', **dict(inner=detector))
""",
    )
    inner = {"neck": {"x": [1, {"y": 42}]}, "head": {"n": 1, "t": {"u": 1, "v": 2}}}
    assert read_config(config) == {
        "lr": 0.2,
        "hooks": 3,
        "detector": inner,
        "none": None,
        "copied": {"n": 7, "t": {"u": 1, "v": 2}},
        "again": {"steps": [0.1, 0.1, "lr 0.1"]},
        "union": {"n": 1, "t": {"u": 1, "v": 2, "w": 3}, "z": 1},
        "model": {"type": "Wrapper", "inner": inner},
    }


def test_double_braces(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DETCORE_CLASSES", "20")
    monkeypatch.delenv("DETCORE_NOTHING", raising=False)
    text = """
a = '{{ fileDirname }}|{{fileBasename}}|{{ fileBasenameNoExtension }}|{{fileExtname}}'
b = dict(n={{'$DETCORE_CLASSES:80'}}, m={{'$DETCORE_NOTHING:[1,2]'}})
c = '{{$DETCORE_NOTHING:/data}}/images'
"""
    assert read_config(write(text)) == {
        "a": f"{tmp_path.as_posix()}|config.py|config|.py",
        "b": {"n": 20, "m": [1, 2]},
        "c": "/data/images",
    }


def test_json(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETCORE_NOTHING", raising=False)
    text = """{
 "_base_": ["a.py"],
 "model": {"neck": {"_delete_": true, "b": 1}, "n": {{ '$DETCORE_NOTHING:80' }}},
 "again": [{{_base_.model.t}}, "{{ _base_.model.t }}", "{{fileBasename}}"]
}"""
    config = write(("a.py", "model = dict(neck=dict(a=1), t=(1, 2))\n"), ("c.json", text))
    assert read_config(config) == {
        "model": {"neck": {"b": 1}, "t": (1, 2), "n": 80},
        "again": [(1, 2), (1, 2), "c.json"],
    }


def test_a_base_of_the_package_is_found_in_the_given_folder(write: Write, tmp_path: Path) -> None:
    write(("zoo/configs/retina/r.py", "model = dict(a=1)\n"))
    config = write(("mine.py", "_base_ = 'mmdet::retina/r.py'\nmodel = dict(b=2)\n"))
    assert read_config(config, roots=[tmp_path / "none", tmp_path / "zoo/configs"]) == {"model": {"a": 1, "b": 2}}
    with pytest.raises(
        ConfigError, match=r"mine\.py:1: it inherits from 'mmdet::retina/r\.py', not found in .*none\. Give"
    ):
        read_config(config, roots=[tmp_path / "none"])


def test_a_base_of_the_package_is_found_where_it_is_installed(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of the package is imported: its ``__init__`` would fail."""
    write(
        ("site/mmdet/__init__.py", "raise SystemExit('imported')\n"),
        ("site/mmdet/.mim/configs/r.py", "model = dict(a=1)\n"),
        ("site/mmdet/configs/s.py", "model = dict(a=2)\n"),
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert read_config(write("_base_ = 'mmdet::r.py'\n")) == {"model": {"a": 1}}
    lazy = "from mmengine.config import read_base\nwith read_base():\n    from mmdet.configs.s import model\n"
    assert read_config(write(lazy)) == {"model": {"a": 2}}


# ------------------------------------------------------------------------------------------------- new-style configs


def test_new_style_configs(write: Write, tmp_path: Path) -> None:
    write(
        (
            "base/model.py",
            """
from mmdet.models import FPN, ResNet
from torch.nn import BatchNorm2d
norm = BatchNorm2d
model = dict(backbone=dict(type=ResNet, depth=50, norm_cfg=dict(type=norm)), neck=[dict(type=FPN)], gone=1)
""",
        ),
        ("base/runtime.py", "hooks = dict(a=dict(x=1), b=2)\nunused = 1\n"),
    )
    config = write(
        (
            "mine/child.py",
            """
from mmengine.config import read_base
import torch.nn as nn
import mmdet.engine
from mmdet.models import RetinaNet as Detector

model.backbone.update(dict(depth=101), init_cfg=dict(type='Pretrained'))
model.merge(dict(neck=dict(_delete_=True, type=mmdet.engine.Neck, act=nn.ReLU), backbone=dict(norm_cfg=None)))
model.pop('gone')
hooks.merge(dict(a=dict(_delete_=True, y=2), c=dict(z=1)))
model.type = Detector
del Detector
with read_base():
    from ..base.model import *
    from ..base.runtime import hooks
    from ..base.runtime import hooks as again
""",
        ),
    )
    assert read_config(config) == {
        "norm": "BatchNorm2d",
        "model": {
            "backbone": {"type": "ResNet", "depth": 101, "norm_cfg": None, "init_cfg": {"type": "Pretrained"}},
            "neck": {"type": "Neck", "act": "ReLU"},
            "type": "RetinaNet",
        },
        "hooks": {"a": {"y": 2}, "b": 2, "c": {"z": 1}},
        "again": {"a": {"y": 2}, "b": 2, "c": {"z": 1}},
    }
    assert all(type(each) is str for each in read_config(config)["model"]["neck"].values())


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = [\n  __import__('os').system('touch sentinel')]", 2, "`__import__(...)` is called. A config is read"),
        ("import os\nos.system('touch sentinel')", 1, "`os` is imported. A config is read"),
        ("from os import system\nsystem('touch sentinel')", 1, "`os` is imported from. A config"),
        ("from mmdet.models import X\nX('touch sentinel')", 2, "`X(...)` is called"),
        ("from mmdet.models import X\nx = X.y('sentinel')", 2, "`X.y(...)` is called"),
        ("from mmdet.models import *", 1, "everything is imported from `mmdet.models`. Name what is needed."),
        ("open('sentinel', 'w')", 1, "`open(...)` is called"),
        ('x = 1\neval(\'open("sentinel", "w")\')', 2, "`eval(...)` is called"),
        ("x = dict(a=1)\ny = x.__class__.__mro__", 2, "the attribute `__mro__` is not read"),
        ("x = ().__class__.__base__.__subclasses__()", 1, "the attribute `__subclasses__` is not read"),
        (
            "x = '{0.__class__}'.format(1)",
            1,
            "the field {0.__class__} is not understood. A field is empty, a number or",
        ),
        ("x = '{a[0]}'.format(a=[1])", 1, "the field {a[0]} is not understood"),
        ("x = '{:{}}'.format(1, 999999999)", 1, "the format '{}' is not understood"),
        ("x = '{}'.format([1])", 1, "a list within a string. Only text and numbers stand"),
        ("x = '%999999999d' % 1", 1, "the format '%999999999d' is not understood. Only text and numbers"),
        ("x = '%*d' % (999999999, 1)", 1, "the format '%*d' is not understood"),
        ("x = f'{1:>999999999}'", 1, "the format '>999999999' is not understood"),
        ("x = f'{dict()}'", 1, "a table within a string"),
        ("x = 'a' * 10 ** 9", 1, "a string of 1000000000 characters is put together. At most 100000 are read."),
        ("x = [0] * 10 ** 9", 1, "reading this takes more than 1000000 steps. Write out what is needed"),
        ("x = 10 ** 10 ** 10", 1, "a whole number of more than 1024 bits"),
        ("x = (-1) ** 0.5", 1, "a complex number"),
        ("x = 1j", 1, "the value 1j is not read. Text, numbers, True, False and None are."),
        ("x = b'a'", 1, "the value b'a' is not read"),
        ("x = round(5, -10 ** 9)", 1, "a number is not rounded to so many places"),
        ("x = list(range(10 ** 12))", 1, "reading this takes more than"),
        ("x = [i for i in range(2000) for j in range(2000)]", 1, "reading this takes more than"),
        ("x = 'a' * 1000\nfor i in range(99):\n    x += x", 3, "a string of 128000 characters is put together"),
        ("x = 'ab'.replace('', 'x' * 50000)", 1, "a string of 150002 characters"),
        ("x = 'x'.join(['y' * 60000] * 2)", 1, "a string of 120002 characters"),
        ("x = 'x'.strip('y' * 1001)", 1, "`strip` of more than 1000 characters"),
        ("x = []\nx.append(x)", 0, "values are nested more than 100 levels deep"),
        ("x = []\nfor i in range(60):\n    x = [x, x]\n", 0, "reading this takes more than"),
        (
            "x = y = ()\nfor i in range(60):\n    x = (x, x)\n    y = (y, y)\nz = x == y",
            5,
            "reading this takes more than",
        ),
        ("x = ()\nfor i in range(60):\n    x = (x, x)\nz = {x: 1}", 4, "reading this takes more than"),
        ("x = ()\nfor i in range(9999):\n    x = (x,)\nz = {x}", 4, "values are nested more than 100 levels deep"),
        ("x = " + "-" * 200 + "1", 1, "nested more than 100 levels deep"),
        ("x = '\\ud800'", 0, "holds half a character (a surrogate)"),
        ("x = 1\ny = lambda: 0", 2, "a lambda is not read. A config is read, never run"),
        ("while True:\n    pass", 1, "a while loop is not read"),
        ("def f():\n    pass", 1, "a function is not read"),
        ("class A:\n    pass", 1, "a class is not read"),
        ("try:\n    x = 1\nfinally:\n    pass", 1, "try is not read"),
        ("assert True", 1, "Assert is not read"),
        ("x = (y := 1)", 1, "an assignment within an expression is not read"),
        ("x = [1]\nx[0:1] = [2]", 2, "Slice is not read"),
        ("x = dict(a=1)\ny = x.a", 2, "the attribute `a` of a table is not read. Write x['a']: only inherited tables"),
        ("x = dict(a=1)\nx.a = 2", 2, "the attribute `a` of a table is set or deleted. Write x['a']"),
        ("x = dict(depth=1)\ny = x['dept']", 2, "there is no key 'dept'. Did you mean \"depth\"?"),
        ("x = dict(a=1)\nx.pop('b')", 2, "there is no key 'b' to take out"),
        ("x = dict(a=1)\ndel x['b']", 2, "there is no 'b' to delete"),
        ("x = dict(a=1)\nx.merge(dict(b=1))", 2, "`merge` is for inherited tables, and takes a table. Write `update`."),
        ("x = 1\nx['a'] = 1", 2, "a value is put into a number. Tables and lists take values."),
        ("x = 1\ndel x[0]", 2, "something is deleted from a number. Tables and lists let go of values."),
        ("x = 1\ny = x[0]", 2, "a number has no [0]"),
        ("x = 1\ny = x[0:1]", 2, "a number has no parts"),
        ("depth = 1\ny = dpth", 2, 'the name `dpth` is not defined. Did you mean "depth"?'),
        ("x = dict", 1, "the function `dict` is no value. Call it, or write 'dict'."),
        ("dict = 1\nx = dict(a=1)", 2, "`dict(...)` is called"),
        ("x = [1][0]()", 1, "something without a name is called"),
        ("x = 'a'.center(9)", 1, "the method `center` of text is not read. There are endswith, format, join, lower"),
        ("x = (1).real()", 1, "the method `real` of a number is not read. Tables, lists and strings have methods."),
        ("x = dict(a=1, a=2)", 1, "the key 'a' is given twice"),
        ("x = dict(a=1, **dict(a=2))", 1, "the key 'a' is given twice"),
        ("x = dict(**{1: 2})", 1, "** takes keys that are text, found 1"),
        ("x = dict(**[1])", 1, "** takes a table, found a list"),
        ("x = {**1}", 1, "** takes a table, found a number"),
        ("x = [*1]", 1, "a number has no elements"),
        ("x = 1 + 'a'", 1, "a number + text is not computed"),
        ("x = [1] @ [2]", 1, "a list MatMult a list is not computed"),
        ("x = ~1", 1, "Invert of a number is not computed"),
        ("x = 1 / 0", 1, "this cannot be worked out (ZeroDivisionError: division by zero)"),
        ("x = 1 < 'a'", 1, "this cannot be worked out (TypeError: '<' not supported"),
        ("x = {[]: 1}", 1, "this cannot be worked out (TypeError: unhashable type: 'list')"),
        ("x = max('ab')", 1, "`min`, `max` and `sum` take numbers"),
        ("x, y = 1, 2, 3", 1, "3 values for 2 names"),
        ("*x, *y = 1, 2", 1, "two starred names in one assignment"),
        ("x = [0]\nfor x[0] in [1]:\n    pass", 2, "a loop runs over something else than names"),
        ("x = [1 for _base_ in [1]]", 1, "a value is given to `_base_`. Choose another name."),
        ("x = 1\nx.y.z(1)", 2, "the attribute `y` of a number is not read"),
        ("x = (1,\n", 1, "not Python: '(' was never closed"),
        ("x = 1\n\0", 2, "not Python: a NUL character"),
        ("_base_ = 1", 1, "`_base_` holds a number. It is the path of a config, or a list of them."),
        ("_base_ = './nothing.py'", 1, "it inherits from './nothing.py', and there is no file"),
        ("_base_ = './confg.py'", 1, 'confg.py. Did you mean "config.py"?'),
        ("_base_ = 'a\\0.py'", 1, "it inherits from 'a\\x00.py', and there is no file"),
        ("_base_ = './config.py'", 1, "it inherits from itself: "),
        ("_base_ = 'mmnothing::a.py'", 1, "and no folder of its configs is known. Only installed packages have"),
        ("_base_ = [x]", 1, "the name `x` is not defined"),
        ("x = {{_base_.model}}", 1, "`_base_.model` is not among what is inherited"),
        ("x = _base_.model", 1, "there is no key `model` in what is inherited"),
        ("x = '{{_base_.model}}'", 1, "`_base_.model` is not among what is inherited"),
        ("x = {{model}}", 1, "what stands in {{ }} is not understood. Write {{_base_.key}} or"),
        (
            "x = {{'model'}}",
            1,
            "{{'model'}} is not understood. An environment variable is written {{'$NAME:default'}}.",
        ),
        (
            "x = {{'$DETCORE_NOTHING:'}}",
            1,
            "the environment has no variable DETCORE_NOTHING. Set it, or write a default",
        ),
        ("x = {{'$DETCORE_NOTHING:=)'}}", 1, "the variable holds '=)', which is no value"),
        ("x = {{'$DETCORE_NOTHING:open(1)'}}", 1, "`open(...)` is called"),
        ("with open('sentinel', 'w'):\n    pass", 1, "with is not read"),
        ("with read_base():\n    x = 1", 2, "Assign within `with read_base():` is not read. Write from .x import *."),
        ("with read_base():\n    from .x import *", 2, "it inherits from '.x', there is no "),
        ("with read_base():\n    from . import x", 2, "it inherits from '.', there is no "),
        ("with read_base():\n    from mmnothing.x import *", 2, "and mmnothing is not among what is installed"),
        ("from .config import *", 1, "it inherits from itself: "),
        ("import mmdet\n_base_ = './a.py'", 2, "a value is given to `_base_`. Choose another name."),
        ("_base_[1] = 2", 0, "the key 1 of the config is no text"),
    ],
)
def test_mistakes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DETCORE_NOTHING", raising=False)
    config = write(text)
    with pytest.raises(ConfigError) as error:
        read_config(config)
    where = f"{config}:{line}: " if line else f"{config}: "
    assert str(error.value).startswith(where)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sentinel").exists()


def test_mistakes_between_files(write: Write) -> None:
    def fails(*files: tuple[str, str]) -> str:
        with pytest.raises(ConfigError) as error:
            read_config(write(*files))
        return str(error.value)

    said = fails(
        ("a.py", "m = dict(p=dict(q=[1]))\n"), ("b.py", "_base_ = 'a.py'\nx = 1\nm = dict(\n  p=dict(q=dict(r=1)))\n")
    )
    assert said.endswith(
        "b.py:3: `m.p.q` is a table here, but inherits a list. Add `_delete_=True` to replace what is inherited."
    )
    said = fails(("b.json", '{\n"_base_": "a.py", "m": {"p": {"q": {}}}}'))
    assert said.endswith(
        "b.json: `m.p.q` is a table here, but inherits a list. Add `_delete_=True` to replace what is inherited."
    )
    said = fails(
        ("a.py", "_base_ = 'b.py'\n"),
        ("b.py", "x = 1\n_base_ = 'c.py'\n"),
        ("c.py", "_base_ = 'b.py'\n"),
        ("d.py", "_base_ = 'a.py'\n"),
    )
    assert "c.py:1: it inherits from itself: " in said
    assert [each.rpartition("/")[2] for each in said.partition("itself: ")[2].split(" -> ")] == [
        "b.py",
        "c.py",
        "b.py. Take one of them out.",
    ]
    assert "d.json:2: it inherits from 'no.json', and there is no file " in fails(
        ("d.json", '{\n"_base_": ["no.json"]}')
    )
    said = fails(("a.py", "x = 1\ny = open('a')\n"), ("b.py", "_base_ = 'a.py'\n"))
    assert "a.py:2: `open(...)` is called" in said
    said = fails(("a.py", "from mmdet.models import X\n"), ("b.py", "_base_ = 'a.py'\n"))
    assert "b.py:1: it inherits by `_base_` from a new-style config, " in said
    said = fails(("a.py", "x = 1\n"), ("b.py", "with read_base():\n    from .a import y\n"))
    assert said.endswith("b.py:2: `y` is not in .a")
    said = fails(("a.py", "x = dict(y=1)\n"), ("b.py", "_base_ = 'a.py'\nz = f'{1}'\nw = 'a {{_base_.x}}'\n"))
    assert said.endswith("b.py:3: `{{_base_.x}}` is a table within a longer string. Only text and numbers can be.")
    files = [("c0.py", "x = 1\n"), *((f"c{n}.py", f"_base_ = 'c{n - 1}.py'\n") for n in range(1, 40))]
    assert "c9.py:1: more than 30 configs inherit one from the other" in fails(*files)
    twice = [("t0.py", ""), *((f"t{n}.py", f"_base_ = ['t{n - 1}.py', 't{n - 1}.py']\n") for n in range(1, 28))]
    assert "reading this takes more than" in fails(*twice)


def test_files_that_are_none(tmp_path: Path, write: Write) -> None:
    def fails(path: Path) -> str:
        with pytest.raises(ConfigError) as error:
            read_config(path)
        return str(error.value)

    write("x = 1\n")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "latin.py").write_bytes(b"# good\nx = '\xe9'\n")
    (tmp_path / "large.py").write_bytes(b"#" * (1 << 20) + b"#")
    assert fails(tmp_path / "confg.py") == f'{tmp_path}/confg.py: there is no such file. Did you mean "config.py"?'
    assert fails(tmp_path / "folder.py") == f'{tmp_path}/folder.py: there is no such file. Did you mean "folder.py"?'
    assert (
        fails(tmp_path / "latin.py")
        == f"{tmp_path}/latin.py:2: a config is written in UTF-8, this is not. Save it as UTF-8."
    )
    assert fails(tmp_path / "large.py") == f"{tmp_path}/large.py: a config has at most 1048576 bytes"
    assert fails(tmp_path / "a.yaml") == f"{tmp_path}/a.yaml: a config ends in .py or .json, not in '.yaml'"
    assert "a.json:1: not JSON: Expecting property name" in fails(write(("a.json", "{{}}")))
    assert "a.json:1: a config is a table, found a list" in fails(write(("a.json", "[1]")))
    assert "nested too deeply" in fails(write(("a.json", '{"a":' * 9999 + "1" + "}" * 9999)))
    assert "nested" in fails(write("x = " + "(" * 5000 + ")" * 5000))
    assert "nested" in fails(write("x = 1" + " + 1" * 50000))
    assert "config.py: a config with f-strings has at most 65536 characters" in fails(
        write("x = f'" + "{1}" * 30000 + "'")
    )
    assert read_config(write("x = 'if'\n" + "# much is said\n" * 9999)) == {"x": "if"}
    assert "there is no such file" in fails(Path("a\0.py"))
    assert "cannot be read: [Errno 36] File name too long" in fails(Path("a" * 5000 + ".py"))
    assert read_config(write(("bom.py", "\ufeffx = 1\n"))) == {"x": 1}
