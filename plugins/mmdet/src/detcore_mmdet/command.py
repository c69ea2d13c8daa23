"""``core-run import-mmdet``: its options. Imports no torch before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.command(name="import-mmdet")
@click.argument("config", type=click.Path(path_type=Path), metavar="CONFIG")
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="[CHECKPOINT]", required=False)
@click.option(
    "--output", "-o", "folder", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where files go."
)
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder that `_base_ = 'mmdet::...'` is looked for in.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many processes trained at once; else what auto_scale_lr was written for.",
)
@click.option("--partial", is_flag=True, help="Write a detector that lacks parts, to be finished by hand.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def import_mmdet(**options: Any) -> None:
    """Write a config of MMDetection (2.x or 3.x) as a config of detcore, and its CHECKPOINT as one of detcore.

    CONFIG is a .py file, which is read and not run, or a .json file of one that is resolved. What was translated, what
    otherwise, and what has no counterpart is printed and written to a .md file beside.

    \b
    Example: core-run import-mmdet faster-rcnn_r50_fpn_1x_coco.py faster_rcnn.pth -o imported
             core-run predict imported/faster-rcnn_r50_fpn_1x_coco.pt street.jpg
    """
    from detcore_mmdet.importing import run  # noqa: PLC0415 (so that --help is instant)

    outcome = run(options.pop("config"), options.pop("checkpoint"), options.pop("folder"), **options)
    for line in outcome.lines:
        click.echo(line)
    if not outcome.passes and not options["partial"]:
        sys.exit(2)
