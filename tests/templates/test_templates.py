"""The templates are fresh, are what cookiecutter makes too, and make code in the style that they ask for."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
from detcore import run
from detcore.cli import main
from detcore.cli.commands import TEMPLATES
from detcore.cli.new import LONGEST

ROOT = Path(__file__).parents[2]
LONG = "l" + "ong" * 13
"""A name as long as one may be."""


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("templates_tool", ROOT / "tools" / "templates.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def new(kind: str, name: str, folder: Path) -> Path:
    with pytest.raises(SystemExit) as exit_:
        main(["new", kind, name, "--output", str(folder)])
    assert exit_.value.code == 0
    return folder / name


def test_what_templates_share_is_fresh() -> None:
    """``python tools/templates.py --write`` makes it so."""
    stale = [name for name, text in tool().generate().items() if (ROOT / name).read_text(encoding="utf-8") != text]
    assert stale == []


def test_every_template_has_its_row_in_the_table_and_on_the_page() -> None:
    page = (ROOT / "templates" / "README.md").read_text(encoding="utf-8")
    assert set(tool().TEMPLATES) == set(TEMPLATES)
    assert all(f"| `{kind}` |" in page for kind in TEMPLATES)


@pytest.mark.parametrize("kind", ["loss", "plugin", "project"])
def test_cookiecutter_makes_the_same(kind: str, tmp_path: Path) -> None:
    """From the repository, as from its URL: it sees the one folder. It asks nothing where answers are given."""
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "cookiecutter", str(ROOT), "--directory", f"templates/{kind}", "--no-input"]
    subprocess.run(
        [*command, "--output-dir", str(tmp_path / "theirs"), "name=odd-one", "author=Ada Example"],
        check=True, env={**os.environ, "HOME": str(home), "USERPROFILE": str(home)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    with pytest.raises(SystemExit):
        main(["new", kind, "odd-one", "--set", "author=Ada Example", "--output", str(tmp_path / "ours")])
    ours = files(tmp_path / "ours" / "odd-one")
    assert ours == files(tmp_path / "theirs" / "odd-one")
    assert len(ours) > 8


def installed(package: Path, site: Path) -> None:
    """What pip would leave of a package in a folder: its module, its name and its entry points."""
    project = tomli.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(package / "src", site, dirs_exist_ok=True)
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [f"{name} = {module}" for name, module in project["entry-points"]["detcore"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[detcore]", *points]))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Modules of the packages that a test makes are not there for the next one."""
    yield
    for name in [each for each in sys.modules if each.startswith("even_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("forgotten")
def test_every_config_has_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the names: each key is held against the signature of the part that it is of."""
    site = tmp_path / "site"
    made = {kind: new(kind, f"even-{kind}", tmp_path) for kind in TEMPLATES}
    for kind, package in made.items():
        if kind != "project":
            installed(package, site)
    monkeypatch.syspath_prepend(str(site))
    configs = [f"even-{kind}::quickstart.toml" for kind in made if kind != "project"]
    configs += [str(path) for path in (made["project"] / "configs").glob("*.toml")]
    assert len(configs) == len(TEMPLATES) + 1
    for config in configs:
        assert [line.partition(": ")[2] for line in run.check(config)] == ["no problem found"], config


@pytest.mark.parametrize("name", ["a", LONG])
def test_style_is_what_the_made_package_asks_for(name: str, tmp_path: Path) -> None:
    """Whatever the name: lines get no longer than they may, and no import gets into another place."""
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("needs ruff")
    assert len(LONG) == LONGEST
    failures: list[str] = []
    for kind in TEMPLATES:
        made = new(kind, name, tmp_path / kind)
        for words in (["check"], ["format", "--check", "--diff"]):
            command = [sys.executable, "-m", "ruff", *words, "--no-cache", "."]
            done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
            failures += [f"{kind}:\n{done.stdout}{done.stderr}"] * (done.returncode != 0)
    assert not failures, "\n".join(failures)
