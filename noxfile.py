"""The test matrix. Plugins are found by looking into plugins/, never listed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
PACKAGES = [ROOT / "core", *PLUGINS]
TEST_TOOLS = ["pytest", "pytest-xdist", "hypothesis", "grimp", "griffe", "hatchling", "setuptools"]
TWO_AT_ONCE = ["--numprocesses=2", "--dist=loadfile"]
"""Two processes with a thread each take little more than half as long as one with two threads."""
DEFAULT = "not slow and not zoo"
"""The tests that are always run: within minutes, and without anything that is no dependency."""

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests", "core", "configs", "templates"]
nox.options.reuse_existing_virtualenvs = True


def requirements() -> str:
    """The text of requirements.txt: core and every plugin, editable."""
    return "".join(f"-e ./{package.relative_to(ROOT).as_posix()}\n" for package in PACKAGES)


@nox.session
def lint(session: nox.Session) -> None:
    """Style of all code."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types of core and every plugin."""
    _install(session, PACKAGES, "mypy", "pytest")
    session.run("mypy", *(str(package / "src") for package in PACKAGES))


@nox.session
def tests(session: nox.Session) -> None:
    """Everything but the slow tests and MMDetection's zoo, parity with the reference tensors included."""
    _install(session, PACKAGES, *TEST_TOOLS)
    session.run("pytest", "-m", DEFAULT, *TWO_AT_ONCE, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def core(session: nox.Session) -> None:
    """Core's own tests in an environment without any plugin."""
    _install(session, [ROOT / "core"], *TEST_TOOLS)
    session.run("pytest", "-m", DEFAULT, "tests/core", *TWO_AT_ONCE, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def templates(session: nox.Session) -> None:
    """Packages of every template: their style and types; of some, another one with every commit, their tests."""
    _install(session, PACKAGES, "pytest", "ruff", "mypy")
    session.run("pytest", "tests/templates", "-k", "style")  # skipped where there is no ruff
    kinds = sorted(path.parent.name for path in ROOT.glob("templates/*/cookiecutter.json"))
    cache = Path(session.create_tmp()).resolve() / "mypy"
    with tempfile.TemporaryDirectory(prefix="detcore-") as name:  # in here, what git ignores would have no style
        folder = Path(name).resolve()
        for kind in kinds:
            session.run("core-run", "new", kind, f"new-{kind}", "--output", str(folder), silent=True)
            with session.chdir(folder / f"new-{kind}"):
                session.run("ruff", "check", ".")
                session.run("ruff", "format", "--check", ".")
                session.run("mypy", "--cache-dir", str(cache))
        always = ["backbone", "loss", "project"]
        others = [kind for kind in kinds if kind not in always]
        packages = [folder / f"new-{kind}" for kind in [*always, others[_commits(session) % len(others)]]]
        to_install = [str(package) for package in packages if package.name != "new-project"]
        session.install("--no-deps", "--target", str(folder / "installed"), *to_install)
        for package in packages:
            with session.chdir(package):  # each trains two steps by its config
                session.run("pytest", env={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "installed")})


@nox.session(default=False)
def slow(session: nox.Session) -> None:
    """The tests that take minutes."""
    _install(session, PACKAGES, *TEST_TOOLS)
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session(default=False)
def debug_recipes(session: nox.Session) -> None:
    """Of the slow tests those of the debug recipes: each trains on real images."""
    _install(session, PACKAGES, *TEST_TOOLS)
    session.run("pytest", "-m", "slow", "tests/configs/test_debug_recipes.py", *session.posargs)


@nox.session(default=False)
def configs(session: nox.Session) -> None:
    """Of the slow tests those of the plugins' quickstarts: each trains two steps and is scored."""
    _install(session, PACKAGES, *TEST_TOOLS)
    words = ["-m", "slow", "tests/contracts/test_quickstarts.py", "--numprocesses=2", *session.posargs]
    session.run("pytest", *words, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False, reuse_venv=False, venv_backend="uv")
def wheels(session: nox.Session) -> None:
    """Sdists, and wheels made of them, hold what the tree holds; of wheels alone a quickstart trains two steps."""
    folder = Path(session.create_tmp()).resolve()
    builder = ["uv", "run", "--no-project", "--with", "hatchling", "python", str(ROOT / "tools" / "wheels.py")]
    session.run(*builder, str(folder / "dist"), external=True)
    session.install("--constraint", str(folder / "dist" / "ours.txt"), "detcore-fcos[recipe]")
    few = ["train.dataset.length=4", "val.dataset.length=2", "train.batch_size=2", "train.epochs=1"]
    with session.chdir(folder):  # nothing of the tree is near
        session.run("core-run", "detcore-fcos::quickstart.toml", *(word for each in few for word in ("--set", each)))


@nox.session(default=False)
def zoo(session: nox.Session) -> None:
    """MMDetection's own configs, read as data: its wheel is installed, but nothing of what it needs to be imported."""
    _install(session, PACKAGES, "pytest", "hypothesis")
    session.install("--no-deps", "mmdet==3.3.0")
    session.run("pytest", "-m", "zoo", "plugins/mmdet", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
@nox.parametrize("plugin", [nox.param(path.name, id=path.name) for path in PLUGINS])
def plugin(session: nox.Session, plugin: str) -> None:
    """One plugin's tests, installed beside core with its declared dependencies only."""
    folder = ROOT / "plugins" / plugin
    _install(session, [ROOT / "core", *_needed(folder)], "pytest", "hypothesis")
    session.run("pytest", "-m", DEFAULT, str(folder), *session.posargs)


@nox.session(default=False, venv_backend="none")
def changed(session: nox.Session) -> None:
    """The session `plugin` of those that differ from main, and of a third of all, another one with every commit."""
    third = PLUGINS[_commits(session) % 3 :: 3]
    for name in sorted({*(path.name for path in third), *_touched(session)}):
        session.notify(f"plugin({name})")


@nox.session(default=False, venv_backend="none")
def full(session: nox.Session) -> None:
    """Every session, one after the other, whatever becomes of the others; docs/matrix.md says what did."""
    names = dict.fromkeys(each.split("(")[0].split("-")[0] for each in _sessions(session))
    rows = []
    for name in (each for each in names if each not in ("full", "changed", "requirements")):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "nox", "--session", name], cwd=ROOT, check=False)
        rows.append((name, "passed" if done.returncode == 0 else "failed", (time.monotonic() - began) / 60))
    lines = [f"| `{name}` | {result} | {minutes:.1f} |" for name, result, minutes in rows]
    head = f"# The matrix\n\nWhat `nox -s full` said the last time, on {os.cpu_count()} cores.\n"
    head += "\n| session | | minutes |\n|---|---|---:|"
    (ROOT / "docs" / "matrix.md").write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    if failed := [name for name, result, _ in rows if result == "failed"]:
        session.error(f"failed: {', '.join(failed)}")


@nox.session(default=False, python=["3.11", "3.12", "3.13"])
def pythons(session: nox.Session) -> None:
    """The tests of core on every Python that is supported."""
    _install(session, PACKAGES, *TEST_TOOLS)
    session.run("pytest", "-m", DEFAULT, "tests/core", "tests/contracts", *session.posargs)


@nox.session(default=False, python="3.11")
def oldest(session: nox.Session) -> None:
    """Core with the lowest versions that it declares."""
    session.install("--resolution", "lowest-direct", "-e", str(ROOT / "core"))
    session.install(*TEST_TOOLS)
    session.run("pytest", "-m", DEFAULT, "tests/core", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Every figure that a README quotes."""
    _install(session, PACKAGES)
    for script in sorted(ROOT.glob("benchmarks/[!_]*.py")):
        session.run("python", str(script))


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The site of the documentation, in site/: the reference is written first, the links are followed at last."""
    _install(session, PACKAGES, "zensical", "mkdocstrings-python")
    session.run("python", "tools/reference.py")
    session.run("zensical", "build", "--clean", "--strict")
    session.run("python", "tools/links.py", "site")


@nox.session(name="requirements", default=False)
def write_requirements(session: nox.Session) -> None:
    """Write requirements.txt anew."""
    (ROOT / "requirements.txt").write_text(requirements())


def _install(session: nox.Session, packages: list[Path], *tools: str) -> None:
    session.install(*tools, *(argument for package in packages for argument in ("-e", str(package))))


def _commits(session: nox.Session) -> int:
    """How many commits there are; 0 where nobody knows."""
    done = session.run("git", "rev-list", "--count", "HEAD", external=True, silent=True, success_codes=[0, 128])
    return int(done) if isinstance(done, str) and done.strip().isdigit() else 0


def _touched(session: nox.Session) -> set[str]:
    """Plugins with files that are not as on main; none where there is no main."""
    wanted = ["git", "diff", "--name-only", "origin/main...HEAD", "--", "plugins"]
    done = session.run(*wanted, external=True, silent=True, success_codes=[0, 128])
    names = {line.split("/")[1] for line in str(done).splitlines() if line.startswith("plugins/")}
    return names & {path.name for path in PLUGINS}


def _sessions(session: nox.Session) -> list[str]:
    """The names of all sessions."""
    listed = session.run(sys.executable, "-m", "nox", "--list", "--json", external=True, silent=True)
    return [each["session"] for each in json.loads(str(listed))]


def _needed(plugin: Path) -> list[Path]:
    """A plugin and those of this repository that it depends on."""
    found = [plugin]
    for each in found:
        project = tomllib.loads((each / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        names = {re.split(r"[\s\[<>=!~;]", dependency)[0] for dependency in project["dependencies"]}
        found += [path for path in PLUGINS if f"detcore-{path.name}" in names and path not in found]
    return found
