"""Random programs: whatever a config says, it is read to plain values or refused in one line, and nothing of it runs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detcore.errors import ConfigError
from detcore_mmdet.reading import read_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NUMBERS = ("0", "1", "-1", "2", "3.5", "1e308", "n", "10 ** 9", "True")
TEXTS = ("'a'", "'b'", "''", "s", "'{{fileBasename}}'", "f'{n}'", "'a' * 99", "'%s'", "'{{_base_.model.c}}'")
LISTS = ("[]", "[1]", "q", "(1, 2)", "x", "range(3)", "_base_.model.a.b", "'ab'", "t.items()", "range(200)")
TABLES = ("dict()", "t", "_base_.model", "_base_", "{}", "t['b']", "_base_.model.a", "{{_base_.model}}", "model")
NASTY = (
    "__import__('os')", "().__class__", "open('sentinel', 'w')", "globals()", "__builtins__", "...", "1j", "b'a'",
    "(lambda: open('sentinel', 'w'))()", "(n := 1)", "'\\ud800'", "{{'$HOME:1'}}", "10 ** 10 ** 10", "'a' * 10 ** 9",
    "[0] * 10 ** 9", "range(10 ** 12)", "list(range(10 ** 5))", "f'{n:>999999999}'", "'%999999999d' % n", "'{0.__class__}'.format(n)",
    "'%*d' % (9, 9)", "eval('1')", "exec('1')", "getattr(t, 'a')", "type(n)", "sorted(q)", "dict", "nothing", "~n",
    "s.center(9)", "s.__class__", "t.__dict__", "{[]}", "q[0:1]()", "[*n]", "dict(**q)", "await n", "s.encode()",
)  # fmt: skip
ODD = (
    "import os", "from os import system as n", "from .config import *", "while 1: pass", "def f(): return 1", "yield",
    "class A: pass", "return", "raise n", "assert n", "global n", "pass", "break", "async def f(): 1", "f(1) = 2",
    "with open('sentinel', 'w'): pass", "try: pass\nfinally: pass", "_base_ = './base.py'", "import torch as y",
    "from mmdet.models import A as y", "with read_base():\n  from .base import *", "match n:\n  case _: pass",
    "q.append(q)", "t['a'] = t", "q += q", "for i in q: q.append(i)", "x = (x, x)", "q = [q, q]", "t = dict(a=t, b=t)",
    "_base_[1] = 2", "_base_.model.m = _base_", "del _base_", "n = n ** n", "s += s", "_base_.merge(_base_)",
    "t.update(t)", "q.extend(q)", "_base_.update(_base_)", "del q[0]", "del t['a']", "_base_ += [1]", "_delete_ = True",
)  # fmt: skip


class Grammar:
    """Writes programs of the grammar of configs, mostly of fitting types, and now and then something nasty."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def any(self, depth: int) -> str:
        if self.random.random() < 0.01:
            return self.one(*NASTY)
        return str(self.one(self.number, self.text, self.items, self.table, self.other)(depth))

    def typed(self, depth: int, leaves: tuple[str, ...], *rules: Callable[[int], str]) -> str:
        chance = self.random.random()
        if chance < 0.01:
            return self.any(depth)
        return str(self.one(*leaves) if depth <= 0 or chance < 0.2 else self.one(*rules)(depth - 1))

    def number(self, depth: int) -> str:
        return self.typed(
            depth,
            NUMBERS,
            lambda d: f"({self.number(d)} {self.one('+', '-', '*', '/', '//', '%', '**')} {self.number(d)})",
            lambda d: f"{self.one('-', 'not ', '+')}{self.number(d)}",
            lambda d: f"len({self.one(self.items, self.table, self.text)(d)})",
            lambda d: f"{self.one('int', 'float', 'abs', 'round', 'bool')}({self.number(d)})",
            lambda d: f"{self.one('min', 'max')}({self.number(d)}, {self.number(d)})",
            lambda d: f"({self.any(d)} {self.one('==', '!=', 'is', 'is not')} {self.any(d)})",
            lambda d: (
                f"({self.number(d)} {self.one('<', '>=')} {self.number(d)} {self.one('<', '==')} {self.number(d)})"
            ),
            lambda d: f"({self.any(d)} {self.one('in', 'not in')} {self.items(d)})",
            lambda d: f"sum([{self.number(d)} for i in {self.items(d)}])",
            lambda d: f"[{self.number(d)}, 1][{self.one(0, -1, 1)}]",
            lambda d: f"{self.items(d)}.{self.one('index', 'count')}({self.any(d)})",
        )

    def text(self, depth: int) -> str:
        return self.typed(
            depth,
            TEXTS,
            lambda d: f"({self.text(d)} + {self.text(d)})",
            lambda d: f"({self.text(d)} * {self.number(d)})",
            lambda d: f"str({self.number(d)})",
            lambda d: (
                f'f"{{{self.one("n", "s", "n + 1")}{self.one("", ":>9", ":.2f", "!r", "!r:5", ":{n}", ":x^9")}}}"'
            ),
            lambda d: f"'{self.one('%d', '%s', '%5.1f', '%%%r')}' % {self.number(d)}",
            lambda d: f"'{self.one('%s %s', '%d%s')}' % ({self.number(d)}, {self.text(d)})",
            lambda d: f"'{self.one('{}', '{0}{0}', '{:>9}', '{!r}')}'.format({self.number(d)})",
            lambda d: f"{self.text(d)}.join([{self.text(d)} for i in {self.items(d)}])",
            lambda d: f"{self.text(d)}.{self.one('upper', 'lower', 'strip', 'title')}()",
            lambda d: f"{self.text(d)}.replace({self.text(d)}, {self.text(d)})",
            lambda d: f"{self.text(d)}[{self.one('1:', '::-1', ':2', '0:9:2')}]",
            lambda d: f"({self.text(d)} if {self.any(d)} else {self.text(d)})",
        )

    def items(self, depth: int) -> str:
        return self.typed(
            depth,
            LISTS,
            lambda d: f"[{self.any(d)}, {self.one('', '*')}{self.items(d)}]",
            lambda d: f"({self.any(d)}, {self.any(d)})",
            lambda d: f"(list({self.items(d)}) + [{self.any(d)}])",
            lambda d: f"(tuple({self.items(d)}) * {self.number(d)})",
            lambda d: f"[{self.any(d)} for i in {self.items(d)} if {self.any(d)}]",
            lambda d: f"[(i, j) for i, j in {self.one('enumerate', 'zip')}({self.items(d)}, {self.number(d)})]",
            lambda d: f"[i for i, j in zip({self.items(d)}, {self.items(d)})]",
            lambda d: f"list({self.any(d)} for i in {self.items(d)} for j in {self.items(d)})",
            lambda d: f"{{{self.number(d)}, {self.text(d)}}}",
            lambda d: f"range({self.number(d)})",
            lambda d: f"{self.table(d)}.{self.one('keys', 'values', 'items')}()",
            lambda d: f"{self.text(d)}.split({self.one('', self.text(d))})",
            lambda d: f"list({self.items(d)})[{self.one('1:', '::-1', ':2')}]",
        )

    def table(self, depth: int) -> str:
        return self.typed(
            depth,
            TABLES,
            lambda d: f"dict(a={self.any(d)}, b={self.any(d)})",
            lambda d: f"dict({self.one('_delete_=True', 'type=1')}, a={self.any(d)})",
            lambda d: f"{{**{self.table(d)}, {self.one(self.text, self.number)(d)}: {self.any(d)}}}",
            lambda d: f"dict({self.table(d)}, c={self.any(d)})",
            lambda d: f"dict(**{self.table(d)})",
            lambda d: f"{self.table(d)}.copy()",
            lambda d: f"{{i: {self.any(d)} for i in {self.items(d)}}}",
            lambda d: f"({self.table(d)} | {self.table(d)})",
            lambda d: f"({self.table(d)} or {self.table(d)})",
        )

    def other(self, depth: int) -> str:
        return self.typed(
            depth,
            ("None", "False", "i"),
            lambda d: f"{self.table(d)}.get({self.text(d)}, {self.any(d)})",
            lambda d: f"{self.table(d)}.pop({self.text(d)}, {self.any(d)})",
            lambda d: f"{self.table(d)}.setdefault({self.text(d)}, {self.any(d)})",
            lambda d: f"_base_.model.{self.one('a', 'c', 'items', 'a.b', 'nothing')}",
            lambda d: f"({self.any(d)} {self.one('and', 'or')} {self.any(d)})",
        )

    def statement(self, depth: int = 2) -> str:
        if self.random.random() < 0.1:
            return str(self.one(*ODD))
        size = self.one(0, 1, 1, 2, 3)
        if depth > 0 and self.random.random() < 0.15:
            head = self.one(f"if {self.any(size)}:", f"for i in {self.items(size)}:", "for i, y in t.items():")
            return "\n".join([head, *(f"  {line}" for line in self.statement(depth - 1).splitlines())])
        return str(
            self.one(
                f"n = {self.number(size)}",
                f"s = {self.text(size)}",
                f"q = list({self.items(size)})",
                f"t = {self.table(size)}",
                f"y = z = {self.any(size)}",
                f"model = {self.table(size)}",
                f"_base_.model.{self.one('a', 'b', 'z')} = {self.any(size)}",
                f"t[{self.one(self.text(0), self.number(0))}] = {self.any(size)}",
                f"n, (s, *y) = {self.number(size)}, ({self.text(size)}, {self.any(size)})",
                f"n {self.one('+', '-', '*')}= {self.number(size)}",
                f"q += {self.items(size)}",
                f"q.{self.one('append', 'extend', 'insert', 'remove')}({self.items(size)})",
                f"{self.one('t', '_base_', '_base_.model')}.update({self.table(size)}, {self.one('', 'z=1', 'a=t')})",
                f"_base_.model.merge({self.table(size)})",
            )
        )

    def program(self) -> str:
        text = self.one(*["_base_ = 'base.py'\n"] * 4, "", "with read_base():\n  from .base import *\n")
        text += "n = 3; s = 'ab'; q = [1, [2], 'a']; t = dict(a=1, b=dict(c=[1])); i = 0\n"
        text += "\n".join(self.statement() for _ in range(self.random.randrange(1, 7)))
        if self.random.random() < 0.03:  # and what is not even a program
            at = self.random.randrange(len(text))
            text = text[:at] + self.one("", "(", "\0", "\t", "\\", "}") + text[at + self.one(0, 1, 5) :]
        return text


def plain(value: Any) -> bool:
    if type(value) is dict:
        return all(plain(each) for pair in value.items() for each in pair)
    if type(value) in (list, tuple):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


def check(seed: int, folder: Path) -> bool:
    """Whether the program of this seed was read; fails where it ended otherwise than it may."""
    config = folder / "config.py"
    text = Grammar(seed).program()
    config.write_text(text, encoding="utf-8")
    found, said = None, ""
    try:
        found = read_config(config)
    except ConfigError as error:
        said = str(error)
    assert not (folder / "sentinel").exists(), text
    assert not Path("sentinel").exists(), text
    assert plain(found) if found is not None else str(folder) in said, text
    assert len(said.splitlines()) <= 1, text
    return found is not None


def run(count: int, folder: Path) -> None:
    read = 0
    (folder / "base.py").write_text("model = dict(a=dict(b=[1, dict(x=2)], c='t'), items=3)\nx = (1, 2)\n")

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**48))
    def each(seed: int) -> None:
        nonlocal read
        read += check(seed, folder)

    each()
    assert read > count // 10, "the grammar writes hardly anything that can be read"


def test_random_programs(tmp_path: Path) -> None:
    run(2_000, tmp_path)


@pytest.mark.zoo
def test_many_random_programs(tmp_path: Path) -> None:
    run(int(os.environ.get("DETCORE_TEST_PROGRAMS", "100000")), tmp_path)
