"""``{{ fileBasename }}``, ``{{$NAME:default}}`` and ``{{_base_.key}}``: what stands in double braces, in strings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from detcore_mmdet.reading.formatting import scalar
from detcore_mmdet.reading.limits import Budget, Refused, short
from detcore_mmdet.reading.values import kind, tables

_BLANK = r"\s{0,20}"  # bounded, as are all repeats that could be tried again and again
_TOKEN = re.compile(
    rf"""\{{\{{{_BLANK}(?:
      (?P<file>fileDirname|fileBasenameNoExtension|fileBasename|fileExtname)
    | ['"]?{_BLANK}\$(?P<variable>\w{{1,100}}){_BLANK}:{_BLANK}(?P<default>\S{{0,500}}?){_BLANK}['"]?
    | _base_\.(?P<base>[\w.]{{1,500}})
    ){_BLANK}\}}\}}""",
    re.VERBOSE,
)
_VARIABLE = re.compile(r"\s*\$(\w+)\s*:\s*(\S*)\s*")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)


@attrs.frozen
class Templates:
    """What double braces stand for in one file.

    Args:
        file: The file.
        base: What it inherits.
        budget: Pays.
    """

    file: Path
    base: Mapping[str, Any]
    budget: Budget

    def expand(self, text: str) -> Any:
        """The string with its double braces replaced; one that is exactly ``{{_base_.key}}`` keeps the key's type."""
        if "{{" not in text:
            return text
        whole = _TOKEN.fullmatch(text)
        if whole and whole["base"]:
            return self.inherited(whole["base"].split("."))
        made = _TOKEN.sub(self._text, text)
        self.budget.text(len(made))
        return made

    def inherited(self, keys: list[str]) -> Any:
        """A copy of the inherited value at these keys."""
        value: Any = self.base
        for count, key in enumerate(keys, start=1):
            if not isinstance(value, dict) or key not in value:
                raise Refused(f"`{short('_base_.' + '.'.join(keys[:count]))}` is not among what is inherited")
            value = value[key]
        return tables(value, self.budget)

    def variable(self, text: str) -> str:
        """What ``$NAME:default`` stands for."""
        match = _VARIABLE.fullmatch(text)
        if not match:
            raise Refused(
                f"{{{{{text[:40]!r}}}}} is not understood", "An environment variable is written {{'$NAME:default'}}."
            )
        return _environment(match[1], match[2])

    def json(self, text: str) -> str:
        """A file's text, where double braces may also stand for a whole value, as JSON."""
        parts, end = [], 0
        for string in _JSON_STRING.finditer(text):
            parts += [self._bare(text[end : string.start()]), string[0]]
            end = string.end()
        return "".join((*parts, self._bare(text[end:])))

    def _bare(self, text: str) -> str:
        return _TOKEN.sub(lambda token: f'"{token[0]}"' if token["base"] else self._text(token), text)

    def _text(self, token: re.Match[str]) -> str:
        if token["file"]:
            return _of_file(self.file, token["file"])
        if token["variable"]:
            return _environment(token["variable"], token["default"])
        value = self.inherited(token["base"].split("."))
        if value is not None and not isinstance(value, str | int | float):
            raise Refused(
                f"`{short(token[0])}` is {kind(value)} within a longer string", "Only text and numbers can be."
            )
        return str(scalar(value))


def _of_file(file: Path, name: str) -> str:
    names = {
        "fileDirname": file.parent.as_posix(),
        "fileBasename": file.name,
        "fileBasenameNoExtension": file.stem,
        "fileExtname": file.suffix,
    }
    return names[name]


def _environment(name: str, default: str) -> str:
    value = os.environ.get(name, default)
    if not value:
        raise Refused(
            f"the environment has no variable {short(name)}", "Set it, or write a default: {{$NAME:default}}."
        )
    return value
