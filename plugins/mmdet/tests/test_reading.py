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
