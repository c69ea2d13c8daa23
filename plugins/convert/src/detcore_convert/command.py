"""``core-run convert``: its options. Imports no torch before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

SOURCES = {
    "cityscapes": "CityscapesDataset",
    "coco": "CocoDataset",
    "crowdhuman": "CrowdHumanDataset",
    "csv": "CSVDataset",
    "labelme": "LabelmeDataset",
    "lvis": "LVISDataset",
    "openimages": "OpenImagesDataset",
    "voc": "VOCDataset",
    "widerface": "WIDERFaceDataset",
    "yolo": "YOLODataset",
}
"""Short names of what is read."""
TARGETS = ("coco", "csv", "labelme", "voc", "yolo")
"""What is written."""


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO", type=click.Choice(TARGETS))
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="A parameter of FROM's data set: root=data; of a config any key.",
)
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A file (coco, csv), or a folder.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val"]),
    default="train",
    show_default=True,
    help="Of a config, which to read; what it is called where it is written (voc, yolo).",
)
@click.option("--link/--no-link", default=True, help="Whether voc and yolo get a link to the folder of images.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def convert(**options: Any) -> None:
    """Write the annotations of FROM as TO: coco, csv, labelme, voc, or yolo; and say what is lost.

    FROM is a format (cityscapes, coco, crowdhuman, csv, labelme, lvis, openimages, voc, widerface, yolo), the type of a
    data set (ListDataset), or a config, whose [train] or [val] is read. Images are not read, nor copied.

    \b
    Example: core-run convert voc coco --set root=VOC2012 --set split=ImageSets/Main/train.txt -o train.json
             core-run convert coco yolo --set annotations=val.json --set images=val2017 --split val -o yolo
    """
    from detcore_convert.convert import run  # noqa: PLC0415 (so that --help is instant)

    click.echo(run(options.pop("source"), options.pop("target"), **options))
