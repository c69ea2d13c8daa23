"""Whether reading data keeps memory: the loader with its workers, epoch after epoch, in megabytes at each one's end.

Memory is the sum of what this process and its workers have, each its part of what is shared (PSS, which Linux alone
tells), so that pages that a worker copies because it counts references are seen. The first epochs warm up: allocators
keep what the largest batches needed. Of those that follow, the median of the last is held against that of the first.
Exits with 1 if it grew::

    python benchmarks/memory.py --data data/coco128

Without ``--data`` procedural shapes are read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detcore.data import Loader, Sanitize
from torchvision.transforms import v2

EPOCHS, WARM_UP, FIRST = 20, 5, 5
"""Epochs in all, of these at the beginning those that do not count, then those that the others are held against."""
SHARE, LEAST = 0.02, 8.0
"""What may be grown by: a share of what was there, or megabytes, whichever is more."""


def processes(parent: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, int] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = each.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(each.parent.name)] = int(after_name[1])
    found = [parent]
    for one in found:
        found += [child for child, its in parents.items() if its == one]
    return found


def pss(process: int) -> float:
    """Megabytes of a process, its part of what is shared; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def by_epoch(loader: Loader, epochs: int) -> Iterator[tuple[float, float]]:
    """At the end of each epoch the megabytes of this process and those of its workers."""
    for epoch in range(epochs):
        for _ in loader.epoch(epoch):
            pass
        own, *workers = [pss(each) for each in processes(os.getpid())]
        yield own, sum(workers)


def growth(memory: Sequence[float], warm_up: int = WARM_UP, first: int = FIRST) -> float:
    """Megabytes by which the median of the last epochs is above that of the first after the warm-up."""
    begin = warm_up + first
    return statistics.median(memory[begin:]) - statistics.median(memory[warm_up:begin])


def allowed(memory: Sequence[float]) -> float:
    """Megabytes that it may grow by."""
    return max(LEAST, SHARE * statistics.median(memory))


def dataset(folder: Path | None) -> Any:
    """COCO128's training images with outlines, or as many shapes."""
    if folder is None:
        from detcore_shapes.shapes import ShapesDataset

        return ShapesDataset(length=128, size=(480, 640))
    from detcore_coco.dataset import CocoDataset

    file = folder / "annotations" / "instances_train2017.json"
    return CocoDataset(annotations=str(file), images=str(folder / "images" / "train2017"), segmentation="polygons")


def main() -> int:
    """Print a row for each epoch; 1 if memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder like COCO128")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transforms = [v2.RandomShortestSize([352, 416, 480], 800, antialias=False), v2.RandomHorizontalFlip(), Sanitize()]
    data = dataset(options.data)
    loader = Loader(data, transforms, batch_size=16, workers=options.workers, shuffle=True, persistent=True)
    memory = []
    print(f"{len(data)} images, {options.workers} workers\nepoch     MB   this process   workers")
    for number, (own, workers) in enumerate(by_epoch(loader, options.epochs), 1):
        memory.append(own + workers)
        print(f"{number:5} {memory[-1]:6.0f} {own:14.0f} {workers:9.0f}", flush=True)
    grown, most = growth(memory), allowed(memory)
    print(f"grown by {grown:.1f} MB, at most {most:.1f} MB: {'flat' if grown <= most else 'it grows'}")
    return int(grown > most)


if __name__ == "__main__":
    sys.exit(main())
