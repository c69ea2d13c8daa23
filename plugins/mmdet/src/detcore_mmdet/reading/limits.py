"""What reading a config may cost: steps, depth, sizes. A config is somebody else's text; it must not hold us up."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from detcore.errors import did_you_mean

STEPS = 1_000_000
"""Steps for a config and all that it inherits: a node that is read, an element that is made, looked at or copied. The
largest of MMDetection's own configs takes 50,000."""
DEPTH = 100
"""Levels of nesting, of expressions and of values."""
CHAIN = 30
"""Configs that inherit one from the other."""
TEXT = 100_000
"""Characters of a string that is put together."""
BITS = 1024
"""Bits of a whole number."""
BYTES = 1 << 20
"""Size of a file."""
FORMATTED = 1 << 16
"""Size of a file with f-strings in it: Python 3.11 takes a time quadratic in their length to parse them."""


class Refused(ValueError):
    """What is not read, by whoever does not know its place in the file: what was found, what would be right."""

    def __init__(self, found: str, fix: str = "") -> None:
        self.found, self.fix = found, fix
        super().__init__(found, fix)


@attrs.define
class Budget:
    """The steps that are left."""

    left: int = STEPS

    def spend(self, steps: int = 1) -> None:
        """Take steps; none may be left after that, but not fewer."""
        self.left -= steps
        if self.left < 0:
            raise Refused(f"reading this takes more than {STEPS} steps", "Write out what is needed and no more.")

    def text(self, length: int) -> None:
        """Take what a string of this length costs, before it is made."""
        if length > TEXT:
            raise Refused(f"a string of {length} characters is put together", f"At most {TEXT} are read.")
        self.spend(1 + length // 16)

    def weigh(self, *values: Any) -> None:
        """Take a step for each value within these, as often as it occurs: before they are compared or hashed."""
        stack = [(value, 0) for value in values]
        while stack:
            value, depth = stack.pop()
            if depth > DEPTH:
                raise Refused(f"values are nested more than {DEPTH} levels deep")
            if isinstance(value, dict):
                self.spend(2 * len(value))
                stack += [(each, depth + 1) for pair in value.items() for each in pair]
            elif isinstance(value, list | tuple | set):
                self.spend(len(value))
                stack += [(each, depth + 1) for each in value]
            else:
                self.spend(1 + len(value) // 64 if isinstance(value, str) else 1)


def whole(value: int) -> int:
    """A whole number that is not too long."""
    if value.bit_length() > BITS:
        raise Refused(f"a whole number of more than {BITS} bits")
    return value


def short(text: str) -> str:
    """The text for a message of one line: what would break it escaped, and cut where it is long."""
    return _escaped(text if len(text) <= 200 else f"{text[:200]}...")


def where(file: Path, line: int | None = None) -> str:
    """A file, or a line of it, in a message."""
    return _escaped(str(file)) if line is None else f"{_escaped(str(file))}:{line}"


def _escaped(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def near(name: Any, names: Iterable[Any]) -> str:
    """``Did you mean "x"?``; long names and those beyond the first thousand are not looked at."""
    texts = [each for each in itertools.islice(names, 1000) if isinstance(each, str) and len(each) <= 200]
    return did_you_mean(name, texts) if isinstance(name, str) and len(name) <= 200 else ""
