"""A recipe that diverges says which command shows it again, and that command does."""

from __future__ import annotations

from pathlib import Path

import pytest
from detcore.cli import main

ROOT = Path(__file__).parents[2]
DIVERGES = (
    "optimizer.lr=1e30", "schedule=[]", "train.dataset.length=8", "train.batch_size=2", "model.backbone.width=8",
    "val={_delete_=true}",
)  # fmt: skip


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(words)
    return int(caught.value.code or 0)


def test_the_command_that_a_diverged_run_names_shows_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [part for each in DIVERGES for part in ("--set", each)]
    config = str(ROOT / "configs" / "quickstart.toml")
    assert ended("train", config, *sets, "--work-dir", str(tmp_path), "--device", "cpu") == 2
    message = capsys.readouterr().err.strip()
    began = message.partition("; ")[2].partition(". Lower the learning rate")[0]
    assert began.startswith("the first output that is not finite is that of ")
    file = message.rpartition("core-run replay ")[2]
    assert ended("replay", file, "--device", "cpu") == 0
    assert capsys.readouterr().out == f"{file}: {began}\n"
