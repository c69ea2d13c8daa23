"""Samples as a run gets them, drawn on a sheet, one by one, or on a page."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import torch
from detcore.assemble import Strings, load
from detcore.data import Loader, RawBatch
from detcore.errors import DataError
from detcore.files import replacing, write_text
from detcore.pictures import BLACK, SHEET, WHITE, draw, fitted, font
from detcore.scripts import split_of
from detcore.structures import Polygons
from PIL import Image, ImageDraw
from torch import Tensor

STYLE = (
    "body{font:14px sans-serif;margin:1em}main{display:grid;gap:1em;"
    "grid-template-columns:repeat(auto-fill,minmax(360px,1fr))}figure{margin:0}img{width:100%}"
)

SWITCH = "PipelineSwitch"
"""The callback that gives training other transforms from an epoch on."""


@attrs.frozen(eq=False)
class Shown:
    """A sample as it is drawn.

    Attributes:
        position: Its place in the epoch's order.
        name: What the dataset calls its image.
        image: (3, H, W) uint8.
        target: Boxes, labels, crowds, and masks or outlines, as :func:`detcore.pictures.draw` reads them.
        dropped: How many objects transforms dropped.
    """

    position: int
    name: str
    image: Tensor
    target: Mapping[str, Any]
    dropped: int

    @property
    def caption(self) -> str:
        """What stands above or below its picture."""
        height, width = self.image.shape[-2:]
        gone = f", dropped: {self.dropped}" if self.dropped else ""
        return f"{self.position}: image {self.name}, {width} x {height}, objects: {len(self.target['boxes'])}{gone}"


def run(
    source: str,
    *,
    split: str = "train",
    count: int = 16,
    start: int = 0,
    epoch: int = 0,
    single: bool = False,
    html: bool = False,
    output: Path | None = None,
    sets: Strings = (),
    swaps: Strings = (),
) -> str:
    """Draw what a config's data looks like behind its transforms; returns a line that says where it is.

    Args:
        source: A config.
        split: ``"train"``: in the order of the run; ``"val"``: in that of the dataset.
        count: How many samples.
        start: How many of the epoch are passed over.
        epoch: Which one, from 0.
        single: A picture for each, in a folder.
        html: And a page that shows them.
        output: A PNG, or that folder.
        sets: As in :func:`detcore.run.train`.
        swaps: As in :func:`detcore.run.train`.

    Raises:
        UserError: Of the config and its data; the epoch has no such samples.
    """
    config, catalog = load(source, sets, swaps)
    switch = switched(config, catalog, epoch) if split == "train" else None
    if switch is not None:
        config, catalog = load(source, [*sets, f"train.transforms='${{callbacks.\"{switch}\".transforms}}'"], swaps)
    settings: Any = split_of(config, catalog, split)
    seed: Any = config.table.get("seed", 0)
    order = settings.order(settings.dataset, settings.batch_size) if split == "train" and settings.order else None
    loader = Loader(settings.dataset, settings.transforms, shuffle=split == "train", order=order, seed=seed)
    if start >= len(loader):
        raise DataError(f"{source}: {split}.dataset", f"has {len(loader)} samples, --start passes over {start}")
    samples = islice(shown(loader, epoch, start), count)
    path = output or Path("browse" if single or html else "browse.png")
    make = singles if single or html else sheet
    pictures = make([*samples], loader.dataset.classes, path)
    if html:
        path = page(pictures, path, f"{Path(source).name}: {split}, epoch {epoch}")
    objects = sum(len(sample.target["boxes"]) for sample, _ in pictures)
    dropped = sum(sample.dropped for sample, _ in pictures)
    behind = f", transforms of callbacks.{switch}" if switch is not None else ""
    line = f"{len(pictures)} of {len(loader)} samples, {objects} objects, {dropped} dropped by transforms"
    return f"{line}{behind}; in {path}"


def switched(config: Any, catalog: Any, epoch: int) -> str | None:
    """The callback whose transforms an epoch is read through; None: those of ``[train]``.

    Where several ``PipelineSwitch`` have begun, a run ends each epoch's start with those of the last one in the config.
    """
    tables = config.table.get("callbacks") or {}
    begins = {
        name: table["epoch"]
        for name, table in tables.items()
        if table.get("type", "").rpartition("/")[2] == SWITCH and "epoch" in table
    }
    if any(begin < 0 for begin in begins.values()):
        last = epochs_of(config, catalog)
        begins = {name: begin if begin >= 0 else last + begin for name, begin in begins.items()}
    return next((name for name, begin in reversed(begins.items()) if begin <= epoch), None)


def epochs_of(config: Any, catalog: Any) -> int:
    """How many epochs a run of a config has, one that is begun counts."""
    train = config.table.get("train") or {}
    epochs: int | None = train.get("epochs")
    if epochs is not None:
        return epochs
    settings = split_of(config, catalog, "train")
    order = settings.order(settings.dataset, settings.batch_size) if settings.order else None
    sizes: dict[str, Any] = {"batch_size": settings.batch_size, "drop_last": settings.drop_last}
    batches = len(Loader(settings.dataset, shuffle=True, order=order, **sizes))
    steps, accumulate = int(settings.steps or 0), int(settings.accumulate)
    return -(-steps // max(-(-batches // accumulate), 1))


def shown(loader: Loader, epoch: int, start: int = 0) -> Iterator[Shown]:
    """The samples of an epoch, one by one. They do not depend on the size of batches."""
    for position, batch in enumerate(loader.epoch(epoch, start), start):
        (image,), (name,) = batch.images, batch.ids
        yield Shown(position, str(name), image, target_of(batch), batch.dropped)


def target_of(batch: RawBatch) -> dict[str, Any]:
    """The objects of the first image of a batch, without padding."""
    if batch.targets is None:
        return {"boxes": torch.zeros(0, 4)}
    targets = batch.targets
    real = targets.valid[0] | targets.crowd[0]
    found = {"boxes": targets.boxes[0][real], "labels": targets.labels[0][real], "iscrowd": targets.crowd[0][real]}
    outlines = targets.masks[0] if targets.masks is not None else None
    if isinstance(outlines, Polygons):
        return {**found, "polygons": outlines.points, "offsets": outlines.offsets, "owner": outlines.owner}
    return found if outlines is None else {**found, "masks": outlines}


Pictures = Sequence[tuple[Shown, str]]
"""Samples, and the files that they are in."""


def sheet(samples: Sequence[Shown], classes: Sequence[str], path: Path) -> Pictures:
    """All samples side by side, written to ``path`` at once or not at all."""
    columns = math.ceil(math.sqrt(len(samples)))
    side = min(SHEET // columns, 800) - 12
    text = font(max(12, side // 36))
    above = sum(text.getmetrics()) + 4
    cells = []
    for sample in samples:
        picture = draw(sample.image, sample.target, classes, side=side)
        cell = Image.new("RGB", (side, above + picture.height), WHITE)
        ImageDraw.Draw(cell).text((0, 0), fitted(sample.caption, text, side), font=text, fill=BLACK)
        cell.paste(picture, (0, above))
        cells.append(cell)
    rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + 12 for row in rows]
    whole = Image.new("RGB", (columns * (side + 12) + 12, sum(heights) + 12), WHITE)
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            whole.paste(cell, (12 + column * (side + 12), 12 + sum(heights[:number])))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        whole.save(temporary, "PNG")
    return [(sample, path.name) for sample in samples]


def singles(samples: Sequence[Shown], classes: Sequence[str], folder: Path) -> Pictures:
    """A PNG for each sample."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for sample in samples:
        file = folder / f"{sample.position:05d}.png"
        with replacing(file) as temporary:
            draw(sample.image, sample.target, classes).save(temporary, "PNG")
        pictures.append((sample, file.name))
    return pictures


def page(pictures: Pictures, folder: Path, title: str) -> Path:
    """``index.html`` beside the pictures of a folder."""
    figures = "\n".join(
        f'<figure><a href="{file}"><img loading="lazy" src="{file}" alt=""></a>'
        f"<figcaption>{html.escape(sample.caption)}</figcaption></figure>"
        for sample, file in pictures
    )
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    path = folder / "index.html"
    body = f"<h1>{html.escape(title)}</h1>\n<main>\n{figures}\n</main>"
    write_text(path, f'<!doctype html>\n<html lang="en">{head}\n{body}\n</html>\n')
    return path
