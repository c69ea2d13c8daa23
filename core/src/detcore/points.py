"""Installed entry points, listed without loading any. Imports nothing but importlib_metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import importlib_metadata

PLUGINS = "detcore"
"""Group of the modules that implement hooks."""
COMMANDS = "detcore.commands"
"""Group of the click commands that plugins add to ``core-run``; an entry point's name is the command's."""
BLOCK = "DETCORE_BLOCK_PLUGINS"
"""Plugins to leave out, separated by commas: distribution, entry point, or ``distribution/entry-point``."""


class Point(NamedTuple):
    """An entry point with the normalised name and the version of its distribution, and which detcore that asks for."""

    distribution: str
    version: str
    point: importlib_metadata.EntryPoint
    requires: Sequence[str] = ()

    @property
    def plugin(self) -> str:
        """``"<distribution>/<entry point>"``."""
        return f"{self.distribution}/{self.point.name}"

    @property
    def misfit(self) -> str:
        """What to say where its distribution is made for another version of detcore; empty where it is not."""
        if not self.requires:
            return ""
        from packaging.specifiers import SpecifierSet  # noqa: PLC0415 (most plugins name no version)

        here = importlib_metadata.version("detcore")
        wrong = [each for each in self.requires if not SpecifierSet(each).contains(here, prereleases=True)]
        return f"is made for detcore {wrong[0]}, this is {here}" if wrong else ""

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
    points = [_point(each) for each in source if each.dist]
    return sorted(points, key=lambda each: (each.distribution != "detcore", each.distribution, each.point.name))


NEED = re.compile(r"detcore(?:\[[^]]*\])? *\(?([<>=!~][^;)]*)\)?")
"""A requirement that names versions of detcore, always."""


def _point(point: importlib_metadata.EntryPoint) -> Point:
    """From the head of the metadata: ``dist.name`` and ``dist.version`` parse all of it, each time."""
    dist: Any = point.dist
    head = (dist.read_text("METADATA") or "").partition("\n\n")[0]
    lines = [line.partition(": ")[::2] for line in head.splitlines()]
    needs = [NEED.fullmatch(value.strip()) for key, value in lines if key == "Requires-Dist"]
    fields, requires = dict(lines), [each[1] for each in needs if each]
    if fields.get("Name") and fields.get("Version"):
        return Point(canonical(fields["Name"]), fields["Version"].strip(), point, requires)
    return Point(canonical(dist.name), dist.version, point, requires)


def apart(versions: Mapping[str, str]) -> list[str]:
    """Which of these distributions are here in another version, or not at all."""
    here = {each.distribution: each.version for each in installed(PLUGINS)}
    return [
        f"{name} {version} (here {here[name]})" if name in here else f"{name} {version} (not installed)"
        for name, version in versions.items()
        if here.get(name) != version and name != "local"
    ]


def blocked_by_environment() -> set[str]:
    """What ``DETCORE_BLOCK_PLUGINS`` names."""
    return {*filter(None, map(str.strip, os.environ.get(BLOCK, "").split(",")))}


def canonical(distribution: str) -> str:
    """The normalised name of a distribution (PyPA, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
