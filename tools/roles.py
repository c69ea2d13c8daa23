"""Loaded by griffe: what docstrings have of reStructuredText, as Markdown (``:class:`Batch```, double colons)."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj):`[~!]?([^`]+)`")


class Roles(griffe.Extension):
    """Takes the roles out of every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute that was read."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value).replace("``", "`")
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
