"""Writes the extras: of each plugin what its quickstart needs, of core what its own needs, and every plugin.

``python tools/extras.py --write``; core and all plugins have to be installed. What a recipe needs is seen, not listed:
the recipe is checked, and every component that is looked up belongs to a distribution.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli
from detcore import load_config, run
from detcore.catalog import Catalog, Target

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "core"
TABLE = "[project.optional-dependencies]\n"


def plugins() -> list[Path]:
    """The folders of this repository's plugins."""
    return sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def recipe(plugin: Path) -> Path:
    """Where a plugin's quickstart lies; one that has no component has none."""
    return plugin / "src" / f"detcore_{plugin.name.replace('-', '_')}" / "configs" / "quickstart.toml"


def metadata(folder: Path) -> dict[str, Any]:
    """``[project]`` of a distribution."""
    table: dict[str, Any] = tomli.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def ours(requirements: Sequence[str]) -> set[str]:
    """Those of this repository, core aside, without versions and extras."""
    return {name for each in requirements if (name := re.split(r"[\s\[<>=!~;]", each)[0]).startswith("detcore-")}


@contextmanager
def looked_up() -> Iterator[set[str]]:
    """The distributions whose components are found meanwhile."""
    found: set[str] = set()
    find = Catalog.find

    def remember(self: Catalog, kind: str, name: str, where: str) -> Target:
        target = find(self, kind, name, where)
        found.add(target.entry.distribution)
        return target

    Catalog.find = remember  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Catalog.find = find  # type: ignore[method-assign]


def used(source: str) -> set[str]:
    """The distributions that a recipe's parts come from; raises where it has a problem."""
    unsaid = "classes" not in load_config(source).table  # then its data would be asked: any do
    with looked_up() as found:
        run.check(source, sets=['classes=["cat", "dog"]'] if unsaid else [])
    return found


def extras_of(plugin: Path) -> dict[str, list[str]]:
    """``{"recipe": [...]}``: what its quickstart needs beside what it depends on."""
    if not recipe(plugin).is_file():
        return {}
    project = metadata(plugin)
    beside = {"detcore", project["name"], *ours(project["dependencies"])}
    return {"recipe": sorted(used(str(recipe(plugin))) - beside)}


def extras_of_core() -> dict[str, list[str]]:
    """``quickstart``, and ``all`` there is."""
    quickstart = used(str(ROOT / "configs" / "quickstart.toml")) - {"detcore"}
    return {"quickstart": sorted(quickstart), "all": sorted(metadata(plugin)["name"] for plugin in plugins())}


def written(text: str, extras: Mapping[str, Sequence[str]]) -> str:
    """The text of a pyproject.toml with these extras; others stay."""
    for name, needed in extras.items():
        lines = f"{name} = [\n" + "".join(f'    "{each}",\n' for each in needed) + "]\n"
        if TABLE not in text:
            text = text.replace("[project.entry-points.detcore]\n", f"{TABLE}\n[project.entry-points.detcore]\n", 1)
        head, tail = text.split(TABLE, 1)
        pattern = rf"(?m)^{name} = \[[^\]]*\]\n"
        tail = re.sub(pattern, lines, tail, count=1) if re.search(pattern, tail) else lines + tail
        text = head + TABLE + tail
    return text


def main() -> None:
    """Write, or show, the extras of all."""
    for folder, extras in [(CORE, extras_of_core()), *((plugin, extras_of(plugin)) for plugin in plugins())]:
        file = folder / "pyproject.toml"
        if "--write" in sys.argv[1:]:
            file.write_text(written(file.read_text(encoding="utf-8"), extras), encoding="utf-8")
        else:
            print(folder.relative_to(ROOT), extras)


if __name__ == "__main__":
    main()
