"""The pages that a reader follows from an empty folder run as they are written.

A block of code with a title is written to a file of that name; a block of ``bash`` is run line by line; the block of
``text`` behind it is what it says (then it may also end with 2, an error of the user); a block of ``python`` without a
title is executed. Blocks without a language are only shown.
"""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
from attrs import frozen
from detcore import errors
from detcore.cli import main

DOCS = Path(__file__).parents[2] / "docs"
WALKS = sorted(f"how-to/{path.name}" for path in DOCS.glob("how-to/*.md"))
PAGES = ["index.md", "start.md", "concepts.md", "plugins.md", "errors.md", *WALKS]
SHOWN = {"", "svg"}


@frozen
class Block:
    language: str
    title: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    pattern = r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$'
    for language, title, text in re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield Block(language, title, text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in; modules that are imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DETCORE_CACHE", str(tmp_path / ".cache"))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, code = "", 0
    names: dict[str, Any] = {}
    for block in blocks(DOCS / page):
        if block.language == "text":
            assert code in (0, 2), said
            missing = [line for line in block.text.splitlines() if line.strip() not in said]
            assert not missing, f"{missing} not in\n{said}"
            code = 0
            continue
        assert code == 0, said
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            code, said = execute(block.text, capsys)
        elif block.language == "python":
            exec(compile(block.text, page, "exec"), names)  # the page is ours
        else:
            assert block.language in SHOWN, f"nobody runs a block of {block.language}"
    assert code == 0, said


def execute(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run each line -> the exit code of the first that fails, and all that was said."""
    capsys.readouterr()
    code = 0
    for line in text.replace("\\\n", " ").splitlines():
        match shlex.split(line, comments=True):
            case ["python", "-m", "pip", "install", "-e", folder]:
                install(Path(folder))
            case ["python", script]:
                runpy.run_path(script, run_name="__main__")
            case ["core-run", *words]:
                with pytest.raises(SystemExit) as ended:
                    main(words)
                assert isinstance(ended.value.code, int)
                code = code or ended.value.code
            case words:
                raise AssertionError(f"nobody runs {words}")
    return code, "".join(capsys.readouterr())


def install(package: Path) -> None:
    """What an editable installation leaves, in the folder that the test is in: no index is asked."""
    project = tomli.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = Path(f"{project['name'].replace('-', '_')}-{project['version']}.dist-info")
    info.mkdir()
    needs = "".join(f"Requires-Dist: {each}\n" for each in project["dependencies"])
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head + needs)
    points = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
              for group, entries in project["entry-points"].items()]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(points))
    sys.path.insert(0, str((package / "src").resolve()))
    importlib.invalidate_caches()


def test_every_class_of_errors_is_in_the_index_of_errors() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.UserError)
    }
    assert kinds == set(re.findall(r"`(\w*Error|Interrupted|Problems)`", page))


def test_no_page_has_code_that_nobody_runs() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in DOCS.parent.glob("tests/**/test_*.py"))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    coded = {page for page in pages if any(block.language not in {"text", *SHOWN} for block in blocks(DOCS / page))}
    coded -= {page for page in coded if page.startswith("reference/")}  # copies of READMEs, which are not kept
    assert {page for page in coded - {*PAGES} if f'"{page}"' not in tests} == set()


def test_every_walk_trains() -> None:
    assert len(WALKS) >= 5
    for page in WALKS:
        commands = [block.text for block in blocks(DOCS / page) if block.language == "bash"]
        assert any(re.search(r"^core-run \w+\.toml --work-dir", text, re.MULTILINE) for text in commands), page
