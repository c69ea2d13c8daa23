"""The TOML that the documentation shows is what a config may say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from detcore import run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "training.md"
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_lies_over_a_recipe(number: int, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(f'_base_ = "{(ROOT / "configs" / "quickstart.toml").as_posix()}"\n{BLOCKS[number]}')
    assert run.check(str(mine)) == [f"{mine}: no problem found"]


def test_the_page_has_blocks() -> None:
    assert len(BLOCKS) == 4
