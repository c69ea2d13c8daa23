"""``--set optimizer.lr=0.02`` and ``--swap model.backbone=TinyNet`` as layers to fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tomli

from detcore.config.fold import Layer
from detcore.config.paths import KeyPath, quote, scan_path
from detcore.config.table import Origin
from detcore.errors import ConfigError, UserError, raise_all

_NULLS = ("none", "null", "nil", "~")
_NOT_IN_BARE_STRINGS = "\"'[]{},"


def option_layers(sets: Sequence[str], swaps: Sequence[str], folder: str) -> tuple[Layer, ...]:
    """One layer per option, swaps first: ``--swap a=B --set a.b=1`` sets a key of the new B, in either order.

    Args:
        sets: ``KEY=VALUE`` as TOML spells them.
        swaps: ``KEY=NAME``.
        folder: What ``${here}`` is in an option: the working folder.

    Raises:
        ConfigError: An option is not of that form; several at once as Problems.
    """
    layers: list[Layer] = []
    problems: list[UserError] = []
    options = [("swap", text, _component) for text in swaps] + [("set", text, _value) for text in sets]
    for kind, text, read in options:
        try:
            layers.append(_layer(kind, text, read, folder))
        except UserError as error:
            problems.append(error)
    raise_all(problems)
    return tuple(layers)


def _layer(kind: str, text: str, read: Callable[[str, str, str], object], folder: str) -> Layer:
    shown = text.encode(errors="replace").decode()
    where = f"option --{kind} {' '.join(shown.split())}"  # errors are one line
    if shown != text:
        raise ConfigError(where, "not UTF-8")
    path, value = _split(where, text)
    raw = read(where, text[: len(text) - len(value) - 1].strip(), value.strip())
    for segment in reversed(path):
        raw = {str(segment): raw}
    assert isinstance(raw, dict)
    return Layer(raw, Origin(where), folder)


def _split(where: str, text: str) -> tuple[KeyPath, str]:
    try:
        path, rest = scan_path(text)
    except ValueError as error:
        raise ConfigError(where, str(error), "Write KEY=VALUE.") from None
    if not rest.startswith("="):
        found = f"{quote(rest)} follows the key" if rest else "no `=`"
        raise ConfigError(where, found, 'Write KEY=VALUE; odd keys are quoted: a."odd.key"=1.')
    return path, rest[1:]


def _component(where: str, key: str, name: str) -> object:
    if not name or any(letter.isspace() or letter in _NOT_IN_BARE_STRINGS + "=" for letter in name):
        raise ConfigError(where, f"{quote(name)} is no component's name", f"Write --swap {key}=NAME.")
    return {"_delete_": True, "type": name}


def _value(where: str, key: str, text: str) -> object:
    """A TOML value; a string needs no quotes when nobody could take it for something else."""
    if not text:
        raise ConfigError(where, "no value after `=`", f"""For an empty string: --set '{key}=""'.""")
    try:
        return _toml(text)
    except (ValueError, RecursionError):
        pass
    if any(letter.isspace() or letter in _NOT_IN_BARE_STRINGS for letter in text):
        fix = f"A string that holds quotes, brackets, braces, commas or blanks is quoted: --set '{key}=\"...\"'."
        raise ConfigError(where, f"{quote(text)} is no TOML value", fix)
    spelling = _spelling(text)
    if spelling is not None:
        fix = f"TOML writes --set '{key}={spelling}', or as a string --set '{key}={quote(text)}'."
        raise ConfigError(where, f"{text} is not how TOML writes it", fix)
    return text


def _toml(text: str) -> object:
    value = tomli.loads(f"value = {text}")
    tomli.loads(f"value = [{text}]")  # fails for `5#b`, which is no 5 with a comment
    if value.keys() != {"value"}:
        raise ValueError(text)
    return value["value"]


def _spelling(text: str) -> str | None:
    """How TOML writes what looks like a boolean, null or number; None for all else."""
    if text.lower() in ("true", "false"):
        return text.lower()
    if text.lower() in _NULLS:
        return "{_none_ = true}"
    for read in (int, lambda digits: int(digits, 0), float):
        try:
            return repr(read(text))
        except ValueError:
            continue
    return None
