"""The config that comes with the package has no problem, and trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFIG = "{{ cookiecutter.__slug }}::quickstart.toml"
SMALL = ["--set", "train.dataset.length=16", "--set", "val.dataset.length=8", "--set", "train.epochs=1"]


def core_run(*words: str) -> None:
    """Run a command; what it says is shown where it fails."""
    subprocess.run([sys.executable, "-m", "detcore", *words], check=True)


def test_it_has_no_problem() -> None:
    core_run("check", CONFIG)


def test_it_trains_two_steps(tmp_path: Path) -> None:
    core_run("train", CONFIG, *SMALL, "--work-dir", str(tmp_path / "run"), "--device", "cpu")
    assert (tmp_path / "run" / "checkpoints" / "last.pt").is_file()
