"""What the README shows works: its config wires, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import tomli
from detcore import run
from detcore.cli.commands import group

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_config_that_the_readme_shows_has_no_problem(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(# my\.toml.*?)```", README, re.DOTALL)
    (tmp_path / "my.toml").write_text(shown.replace("configs/", f"{ROOT.as_posix()}/configs/"))
    assert run.check(str(tmp_path / "my.toml"))[-1].endswith("no problem found")


def test_every_command_is_in_the_readme_and_the_other_way_round() -> None:
    told = {match or "train" for match in re.findall(r"^\| `core-run ?([a-z-]*)", README, re.MULTILINE)}
    projects = [tomli.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("plugins/*/pyproject.toml")]
    others = {name for each in projects for name in each["project"]["entry-points"].get("detcore.commands", {})}
    assert set(group.commands) <= told <= set(group.commands) | others


def test_every_plugin_is_in_the_readme() -> None:
    told = set(re.findall(r"^\| `(detcore-[a-z0-9-]+)`", README, re.MULTILINE))
    assert told == {f"detcore-{path.parent.name}" for path in ROOT.glob("plugins/*/pyproject.toml")}
