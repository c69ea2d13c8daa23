"""Key paths, written as TOML writes dotted keys: ``model.neck.0."odd.key"``. A bare integer is a place in a list."""

from __future__ import annotations

import json
import re

import tomli

from detcore.errors import ConfigError

KeyPath = tuple[str | int, ...]
MAX_DEPTH = 64  # levels of tables, of `_base_` and of references; far below Python's own limit on recursion

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_INDEX = re.compile(r"0|-?[1-9][0-9]{0,8}")
_PART = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')[ \t]*""")


def parse_path(text: str) -> KeyPath:
    """Read a dotted key; the inverse of :func:`format_path`.

    Raises:
        ConfigError: It is no dotted key as TOML spells it.
    """
    try:
        path, rest = scan_path(text)
    except ValueError as error:
        raise ConfigError(f"key {quote(text)}", str(error)) from None
    if rest:
        raise ConfigError(f"key {quote(text)}", f"{quote(rest)} follows the key", 'Quote odd keys: a."odd.key".')
    return path


def format_path(path: KeyPath) -> str:
    """``('a', 0, 'odd.key')`` -> ``a.0."odd.key"``."""
    return ".".join(str(part) if isinstance(part, int) else _format_part(part) for part in path)


def scan_path(text: str) -> tuple[KeyPath, str]:
    """The dotted key that ``text`` starts with, and what follows it; ValueError when there is none."""
    path: list[str | int] = []
    rest = "." + text
    while rest.startswith("."):
        match = _PART.match(rest, 1)
        if match is None:
            raise ValueError(f"expected a key, found {quote(rest[1:]) if rest[1:] else 'nothing'}")
        path.append(_parse_part(match[1]))
        rest = rest[match.end() :]
    return tuple(path), rest


def as_index(text: str) -> int | None:
    """The index that a key spells (``1``, ``-1``), or None."""
    return int(text) if _INDEX.fullmatch(text) else None


def format_key(key: str) -> str:
    """A key as a TOML file writes it: bare where TOML allows, else quoted."""
    return key if _BARE.fullmatch(key) else quote(key)


def quote(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's, but for DEL


def _parse_part(text: str) -> str | int:
    if text[0] in "\"'":
        return str(tomli.loads(f"key = {text}")["key"])  # TOMLDecodeError is a ValueError
    index = as_index(text)
    return text if index is None else index


def _format_part(part: str) -> str:
    return quote(part) if as_index(part) is not None else format_key(part)
