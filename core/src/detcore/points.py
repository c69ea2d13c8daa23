"""Installed entry points, listed without loading any. Imports nothing but importlib_metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import importlib_metadata

PLUGINS = "detcore"
"""Group of the modules that implement hooks."""
COMMANDS = "detcore.commands"
"""Group of the click commands that plugins add to ``core-run``; an entry point's name is the command's."""
BLOCK = "DETCORE_BLOCK_PLUGINS"
"""Plugins to leave out, separated by commas: distribution, entry point, or ``distribution/entry-point``."""


class Point(NamedTuple):
    """An entry point with the normalised name and the version of its distribution."""

    distribution: str
    version: str
    point: importlib_metadata.EntryPoint

    @property
    def plugin(self) -> str:
        """``"<distribution>/<entry point>"``."""
        return f"{self.distribution}/{self.point.name}"

    def is_blocked(self, blocks: Iterable[str]) -> bool:
        """Whether one of ``blocks`` names this entry point, by distribution, by its own name or by both."""
        names = {self.distribution, self.point.name, self.plugin}
        for block in blocks:
            owner, slash, name = block.partition("/")
            if names & {block, f"{canonical(owner)}{slash}{name}"}:
                return True
        return False


def installed(group: str) -> list[Point]:
    """The entry points of a group; of a distribution that is on sys.path twice, those of the first."""
    return listed(importlib_metadata.entry_points(group=group))


def listed(source: Iterable[importlib_metadata.EntryPoint]) -> list[Point]:
    """Core's first, then by distribution and name, so that the order does not depend on the file system."""
    points = [Point(*_name_and_version(each.dist), each) for each in source if each.dist]
    return sorted(points, key=lambda each: (each.distribution != "detcore", each.distribution, each.point.name))


def _name_and_version(dist: Any) -> tuple[str, str]:
    """From the head of the metadata: ``dist.name`` and ``dist.version`` parse all of it, each time."""
    head = (dist.read_text("METADATA") or "").partition("\n\n")[0]
    fields = dict(line.partition(": ")[::2] for line in head.splitlines())
    if fields.get("Name") and fields.get("Version"):
        return canonical(fields["Name"]), fields["Version"].strip()
    return canonical(dist.name), dist.version


def blocked_by_environment() -> set[str]:
    """What ``DETCORE_BLOCK_PLUGINS`` names."""
    return {*filter(None, map(str.strip, os.environ.get(BLOCK, "").split(",")))}


def canonical(distribution: str) -> str:
    """The normalised name of a distribution (PyPA, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
