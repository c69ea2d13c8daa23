"""How long the command line takes to answer with 100 plugins installed.

Makes 100 dummy distributions in a temporary folder on PYTHONPATH, then measures, interleaved: an empty interpreter, a
bare script that loads every entry point of the group, and ``core-run``. Exits with 1 if a target is missed::

    python benchmarks/startup.py --rounds 15
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

BARE = """
import importlib_metadata
for point in importlib_metadata.entry_points(group="detcore"):
    try:
        point.load()
    except Exception:
        pass
"""
PLUGIN = """
from detcore import Component, hookimpl

@hookimpl
def detcore_components():
    return [Component("assigner", f"Dummy{number}Assigner{{i}}", "dummy_{number}.code:A") for i in range(5)]
"""
CONFIG = '[model]\ntype = "OneStage"\n[model.neck]\ntype = "FPN"\nnum_outs = 5\n'


def install(folder: Path, number: int) -> None:
    """A distribution as pip leaves it, with one light plugin module."""
    info = folder / f"detcore_dummy_{number}-1.0.dist-info"
    package = folder / f"dummy_{number}"
    info.mkdir()
    package.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: detcore-dummy-{number}\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[detcore]\ndummy_{number} = dummy_{number}.plugin\n")
    package.joinpath("__init__.py").write_text("")
    package.joinpath("plugin.py").write_text(PLUGIN.format(number=number))


def medians(commands: Mapping[str, Sequence[str]], rounds: int, environment: dict[str, str]) -> dict[str, float]:
    """Median seconds per command; the rounds are interleaved, so that a slow moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 2):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            if number > 1:  # the first two compile and warm the disk cache
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> int:
    """Print the table; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--plugins", type=int, default=100)
    options = parser.parse_args()
    core_run = str(Path(sys.executable).with_name("core-run"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(options.plugins):
            install(folder, number)
        (folder / "config.toml").write_text(CONFIG)
        environment = {**os.environ, "PYTHONPATH": name, "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "bare scan": [sys.executable, "-c", BARE],
            "core-run --help": [core_run, "--help"],
            "core-run plugins": [core_run, "plugins"],
            "core-run show": [core_run, "show", str(folder / "config.toml")],
        }
        seconds = medians(commands, options.rounds, environment)
    bare = seconds["bare scan"]
    limits = {"core-run --help": 0.15, "core-run plugins": 1.5 * bare, "core-run show": 2 * bare}
    load = os.getloadavg()[0]
    busy = f"; {load:.1f} jobs on {os.cpu_count()} cores: absolute times mean little" if load > 1.5 else ""
    print(f"{options.plugins} plugins, median of {options.rounds} runs{busy}\n")
    print("command              seconds  x bare  target")
    for command, taken in seconds.items():
        limit = limits.get(command)
        verdict = "" if limit is None else f"<= {limit:.3f}  {'ok' if taken <= limit else 'MISSED'}"
        print(f"{command:20} {taken:7.3f}  {taken / bare:6.2f}  {verdict}".rstrip())
    return int(any(seconds[command] > limit for command, limit in limits.items()))


if __name__ == "__main__":
    sys.exit(main())
