"""Entry points of distributions that are not installed, as discovery sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen


@frozen
class Dist:
    name: str
    version: str = "1.0"

    def read_text(self, file: str) -> str:
        return f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n\nName: not this"


@frozen
class Point:
    name: str
    dist: Dist
    load: Callable[[], Any]
