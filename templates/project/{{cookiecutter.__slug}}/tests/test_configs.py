"""Every config of the project has no problem, and the last one trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = ["--set", "train.dataset.length=16", "--set", "val.dataset.length=8", "--set", "train.epochs=1"]


def core_run(*words: str) -> None:
    """Run a command; what it says is shown where it fails."""
    subprocess.run([sys.executable, "-m", "detcore", *words], check=True)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_it_has_no_problem(config: Path) -> None:
    core_run("check", str(config))


def test_it_trains_two_steps(tmp_path: Path) -> None:
    run = tmp_path / "run"
    core_run("train", str(CONFIGS / "gated.toml"), *SMALL, "--work-dir", str(run), "--device", "cpu")
    assert (run / "checkpoints" / "last.pt").is_file()
