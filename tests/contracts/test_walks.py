"""The pages that a reader follows from an empty folder run as they are written.

A block of code with a title is written to a file of that name; a block of ``bash`` is run line by line; the block of
``text`` behind it is what it says (then it may also end with 2, an error of the user); a block of ``python`` without a
title is executed. Blocks without a language are only shown.
"""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from detcore.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(f"how-to/{path.name}" for path in DOCS.glob("how-to/*.md"))
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
    said, code, ran = "", 0, 0
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
            code, said, ran = *execute(block.text, capsys), ran + 1
        elif block.language == "python":
            exec(compile(block.text, page, "exec"), names)  # the page is ours
            ran += 1
        else:
            assert block.language in SHOWN, f"nobody runs a block of {block.language}"
    assert code == 0, said
    assert ran


def execute(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run each line -> the exit code of the first that fails, and all that was said."""
    capsys.readouterr()
    code = 0
    for line in text.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line, comments=True)
        if program == "python":
            runpy.run_path(words[0], run_name="__main__")
            continue
        assert program == "core-run", f"nobody runs {program}"
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert isinstance(ended.value.code, int)
        code = code or ended.value.code
    return code, "".join(capsys.readouterr())


def test_every_walk_trains() -> None:
    walks = [page for page in PAGES if page.startswith("how-to/")]
    assert len(walks) >= 5
    for page in walks:
        commands = [block.text for block in blocks(DOCS / page) if block.language == "bash"]
        assert any(re.search(r"^core-run \w+\.toml --work-dir", text, re.MULTILINE) for text in commands), page
