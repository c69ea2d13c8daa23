"""The config that comes with the package has no problem, and trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from detcore.cli import main

CONFIG = "{{ cookiecutter.__slug }}::quickstart.toml"
SMALL = ["--set", "train.dataset.length=16", "--set", "val.dataset.length=8", "--set", "train.epochs=1"]


def core_run(*words: str) -> None:
    """A command as the terminal has it, in this process; it ends well."""
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 0


def test_it_has_no_problem() -> None:
    core_run("check", CONFIG)


def test_it_trains_two_steps(tmp_path: Path) -> None:
    core_run("train", CONFIG, *SMALL, "--work-dir", str(tmp_path / "run"), "--device", "cpu")
    assert (tmp_path / "run" / "checkpoints" / "last.pt").is_file()
