"""``docs/mmdet.md``: its tables name all that is translated and nothing else; what needs no configs of others runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli
from contracts.test_site import tool
from contracts.test_walks import DOCS, Block, blocks, execute
from detcore_mmdet import config
from detcore_mmdet.command import import_mmdet
from detcore_mmdet.export_command import export_mmdet

PAGE = DOCS / "mmdet.md"
TEXT = PAGE.read_text(encoding="utf-8")
WHEEL = ("Three commands", "Going back")
"""Sections whose commands need MMDetection's own configs; plugins/mmdet/tests/zoo runs them."""
TABLES = {
    "Transforms": {"detcore_transforms.mmdet", "detcore_mmdet.transforms", "detcore_albumentations.mmdet"},
    "Hooks, evaluators, the rest": {"detcore_mmdet.hooks"},
    "Optimizer and schedule": {"detcore_mmdet.schedules"},
}
"""Sections that have a row for each name that these modules translate."""
page = tool("mmdet_page")


def section(title: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    (found,) = re.findall(rf"^(#+) {re.escape(title)}\n(.*?)(?=^##? |^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    text: str = found[1]
    return text


def named(title: str) -> set[str]:
    """What stands as code in the first cells of a section's table."""
    return {name for cell in re.findall(r"^\|(.*?)\|", section(title), re.MULTILINE) for name in codes(cell)}


def codes(text: str) -> list[str]:
    found: list[str] = re.findall(r"`([^`]+)`", text)
    return found


def test_the_table_of_names_is_what_the_plugins_translate() -> None:
    assert page.page(TEXT) == TEXT, "run: python tools/mmdet_page.py --write"


def test_every_name_is_in_the_table_of_names_once() -> None:
    table = TEXT.split(page.BEGIN)[1].split(page.END)[0]
    pairs = [
        pair for row in re.findall(r"^\| `detcore-[\w-]+` \| (.*) \|$", table, re.MULTILINE) for pair in row.split("; ")
    ]
    names = [name for pair in pairs for name in codes(pair.split(" → ")[0])]
    assert sorted(names) == sorted(page.known())
    assert len(names) > 150


def test_a_name_that_is_missing_or_too_many_is_a_fault() -> None:
    assert page.page(TEXT.replace("`GridAssigner`", "", 1)) == TEXT
    assert page.page(TEXT.replace(page.END, f"| `detcore-x` | `Unheard` |\n{page.END}")) == TEXT


@pytest.mark.parametrize("title", TABLES)
def test_each_transform_schedule_and_hook_has_a_row(title: str) -> None:
    modules = TABLES[title]
    translated = {name for name, each in page.known().items() if each.__module__ in modules}
    assert translated - named(title) == set()
    types = {name for name in named(title) if name in page.known()}
    assert {page.known()[name].__module__ for name in types} <= modules
    if title == "Transforms":
        assert named(title) == translated


def test_example_of_a_name_is_one_that_is_translated() -> None:
    assert {*page.EXAMPLES, *page.SPOKEN} - {*page.known()} == set()


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As test_walks has it; TOML without a title is the whole of the file that was written last."""
    monkeypatch.chdir(tmp_path)
    said, code, ran = "", 0, 0
    for block in own_blocks():
        if block.language == "text":
            missing = [line for line in block.text.splitlines() if line.strip() not in said]
            assert not missing, f"{missing} not in\n{said}"
            code = 0
        elif block.language == "bash":
            assert code == 0, said
            code, said = execute(block.text, capsys)
            assert code in (0, 2)
            ran += 1
        elif block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        else:
            assert block.language == "toml"
            assert tomli.loads(block.text)
            assert block.text == Path("imported/small.toml").read_text(encoding="utf-8")
    assert (code, ran) == (0, 5)


def own_blocks() -> Iterator[Block]:
    """Blocks of the sections that need nothing of others."""
    others = [block for title in WHEEL for block in blocks(PAGE) if block.text in section(title)]
    assert len(others) == 5
    return (block for block in blocks(PAGE) if block not in others)


def test_options_and_keys_of_the_page_are_there() -> None:
    options = {name for command in (import_mmdet, export_mmdet) for each in command.params for name in each.opts}
    assert {*re.findall(r"`(--(?!score|set)\w+)", TEXT)} <= options
    said = {word for code in codes(re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)) for word in re.split(r"[.=]", code)}
    assert {*config.READ, *config.DROPPED} - said == set()
