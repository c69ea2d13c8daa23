"""``core-run check-data``: its options. Imports no torch before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(name="check-data")
@click.argument("config", metavar="CONFIG")
@click.option("--workers", type=click.IntRange(0), metavar="N", help="Processes that read; by default the config's.")
@click.option("--json", type=click.Path(path_type=Path), metavar="FILE", help="Write everything that was found.")
@click.option("--plots", type=click.Path(path_type=Path), metavar="DIR", help="Draw sizes, classes and objects.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set a key: train.workers=2.")
@click.option("--swap", "swaps", multiple=True, metavar="KEY=TYPE", help="Replace a component.")
def check_data(**options: Any) -> None:
    """Read all samples of CONFIG's train and val data once, and say what is wrong with them.

    Exit codes: 0 nothing but oddities that are kept as they are; 1 something loses or distorts data;
    2 the config or its data cannot be read at all.

    Example: core-run check-data my.toml --workers 4 --json flaws.json --plots pictures
    """
    from detcore_check_data.check import run  # noqa: PLC0415 (so that --help is instant)

    text, harmful = run(options.pop("config"), **options)
    click.echo(text)
    click.get_current_context().exit(1 if harmful else 0)
