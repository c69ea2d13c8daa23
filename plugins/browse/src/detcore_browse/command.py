"""``core-run browse``: its options. Imports no torch before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("config", metavar="CONFIG")
@click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True, help="Whose data.")
@click.option("--count", type=click.IntRange(1), default=16, show_default=True, metavar="N", help="Samples to draw.")
@click.option("--start", type=click.IntRange(0), default=0, metavar="N", help="Samples of the epoch to pass over.")
@click.option("--epoch", type=click.IntRange(0), default=0, metavar="N", help="Which epoch, from 0.")
@click.option("--single", is_flag=True, help="A picture per sample, in a folder, instead of a sheet.")
@click.option("--html", is_flag=True, help="A page with a picture per sample, in a folder, instead of a sheet.")
@click.option("--output", type=click.Path(path_type=Path), metavar="PATH", help="By default browse.png, or browse.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set a key: train.batch_size=2.")
@click.option("--swap", "swaps", multiple=True, metavar="KEY=TYPE", help="Replace a component.")
def browse(**options: Any) -> None:
    """Draw samples of CONFIG as training gets them: behind all transforms, in the order of the run.

    Example: core-run browse my.toml --count 9 --output sheet.png
    """
    from detcore_browse.browse import run  # noqa: PLC0415 (so that --help is instant)

    click.echo(run(options.pop("config"), **options))
