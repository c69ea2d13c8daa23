"""``core-run export-mmdet``: its options. Imports no torch before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(name="export-mmdet")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Where to: x.pth.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="CONFIG",
    help="MMDetection's config of the model, .py or .json; by default what import-mmdet left in CHECKPOINT.",
)
@click.option("--force", is_flag=True, help="Replace FILE where it is there.")
def export_mmdet(**options: Any) -> None:
    """Write the weights of CHECKPOINT under MMDetection's names, for MMDetection to load.

    CHECKPOINT is one of a run, whose averaged weights are taken where there are some, or of import-mmdet. The config
    of MMDetection says what its tensors are called there.

    \b
    Example: core-run export-mmdet runs/my/checkpoints/best.pt --config retinanet_r50_fpn_1x_coco.py -o best.pth
    """
    from detcore_mmdet.export import export  # noqa: PLC0415 (so that --help is instant)

    for line in export(options.pop("checkpoint"), options.pop("output"), **options):
        click.echo(line)
