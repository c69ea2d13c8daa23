"""Strings with values in them: ``%``, ``str.format`` and f-strings, of text and numbers alone and of bounded width."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable
from typing import Any

from detcore_mmdet.reading.limits import Budget, Refused
from detcore_mmdet.reading.values import kind

_SPEC = re.compile(r"(?:.?[<>=^])?[-+ ]?z?#?0?[0-9]{0,3}[,_]?(?:\.[0-9]{1,3})?[a-zA-Z%]?", re.DOTALL)
_PERCENT = re.compile(r"%(?:%|(?:\((?P<key>\w+)\))?[-+ #0]*[0-9]{0,3}(?:\.[0-9]{0,3})?[sdiufFeEgGrxXo])")
_PLAIN = "Only text and numbers stand in a string, in at most 999 characters."
_PLACES = 100


def scalar(value: Any) -> Any:
    """Text, a number, a boolean or None, as it is."""
    if value is None or isinstance(value, str | int | float):
        return value
    raise Refused(f"{kind(value)} within a string", _PLAIN)


def formatted(value: Any, spec: str, conversion: str, budget: Budget) -> str:
    """``{value!conversion:spec}``."""
    value = scalar(value)
    if not _SPEC.fullmatch(spec):
        raise Refused(f"the format {spec[:40]!r} is not understood", _PLAIN)
    if isinstance(value, str):
        budget.text(len(value))
    if conversion:
        convert: dict[str, Callable[[Any], str]] = {"r": repr, "a": ascii, "s": str}
        value = convert[conversion](value)
    text = format(value, spec)
    budget.text(len(text))
    return text


def percent(template: str, values: Any, budget: Budget) -> str:
    """``template % values``."""
    places = list(_PERCENT.finditer(template))
    if "%" in _PERCENT.sub("", template) or len(places) > _PLACES:
        raise Refused(f"the format {template[:40]!r} is not understood", _PLAIN)
    if isinstance(values, dict):
        values = {place["key"]: scalar(values[place["key"]]) for place in places if place["key"]}
    elif isinstance(values, tuple):
        values = tuple(scalar(each) for each in values)
    else:
        values = scalar(values)
    text: str = template % values
    budget.text(len(text))
    return text


def format_method(template: str, budget: Budget, args: tuple[Any, ...], named: dict[str, Any]) -> str:
    """``template.format(*args, **named)``; fields are numbers and names: no attributes, no items."""
    parts: list[str] = []
    numbers = itertools.count()
    for literal, field, spec, conversion in string.Formatter().parse(template):
        budget.text(len(literal))
        parts.append(literal)
        if field is None:
            continue
        if field and not re.fullmatch(r"\w+", field):
            raise Refused(f"the field {{{field[:40]}}} is not understood", "A field is empty, a number or a name.")
        key = field or str(next(numbers))
        value = args[int(key)] if key.isdecimal() else named[key]
        parts.append(formatted(value, spec or "", conversion or "", budget))
    return "".join(parts)
