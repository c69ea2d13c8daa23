"""Every config of the project has no problem, and the last one trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from detcore.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = ["--set", "train.dataset.length=16", "--set", "val.dataset.length=8", "--set", "train.epochs=1"]


def core_run(*words: str) -> None:
    """A command as the terminal has it, in this process; it ends well."""
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 0


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_it_has_no_problem(config: Path) -> None:
    core_run("check", str(config))


def test_it_trains_two_steps(tmp_path: Path) -> None:
    run = tmp_path / "run"
    core_run("train", str(CONFIGS / "gated.toml"), *SMALL, "--work-dir", str(run), "--device", "cpu")
    assert (run / "checkpoints" / "last.pt").is_file()
