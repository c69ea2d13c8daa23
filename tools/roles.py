"""What the pages of Python code need: roles of docstrings (``:class:`Batch```) as plain code. Loaded by griffe."""

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
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value).replace("``", "`")
