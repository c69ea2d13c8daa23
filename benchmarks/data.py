"""How fast samples come out of one process: transforms beside nothing but decoding, in turns.

COCO128's images are read, flipped, resized to 1333 x 800 at most, sanitised and packed into batches, with boxes alone
and with outlines; beside it the same images are only decoded. The ratio of both rates is what transforms leave of the
decoder. YOLOX's mosaics and mixed images at 640 pixels are quoted: five images are decoded for each. Exits with 1 if a
target is missed::

    python benchmarks/data.py --data coco128 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from detcore.data import Loader, Sanitize
from detcore_coco.dataset import CocoDataset
from detcore_transforms.affine import YOLOXRandomAffine
from detcore_transforms.colors import YOLOXHSVRandomAug
from detcore_transforms.mosaic import MixUp, Mosaic
from torchvision.transforms import v2

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("DETCORE_TEST_DATA", ROOT.parent / "shared" / "data")) / "coco128"
TARGETS = {"boxes at 1333 x 800": 0.55, "outlines at 1333 x 800": 0.5}
"""The least rate of each, as a share of that of decoding alone."""


def coco(folder: Path, segmentation: Literal["none", "polygons"]) -> CocoDataset:
    annotations = folder / "annotations" / "instances_train2017.json"
    return CocoDataset(
        annotations=str(annotations), images=str(folder / "images" / "train2017"), segmentation=segmentation
    )


def usual() -> list[v2.Transform]:
    return [v2.RandomHorizontalFlip(), v2.Resize(size=800, max_size=1333, antialias=False), Sanitize()]


def yolox(side: int = 640) -> list[v2.Transform]:
    return [
        Mosaic(size=(side, side)),
        YOLOXRandomAffine(scale=(0.1, 2.0), border=(-side // 2, -side // 2)),
        MixUp(size=(side, side), ratio=(0.8, 1.6)),
        YOLOXHSVRandomAug(),
        v2.RandomHorizontalFlip(),
        Sanitize(),
    ]


def run_through(samples: Iterable[Any]) -> None:
    """None is kept, as in training: memory that was used is used again."""
    for _ in samples:
        pass


def seconds(samples: Callable[[], Any]) -> float:
    began = time.perf_counter()
    samples()
    return time.perf_counter() - began


def in_turns(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round; every second round goes backwards. One round before does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            took = seconds(runs[name])
            if number:
                times[name].append(took)
    return times


def rates(times: Mapping[str, Sequence[float]], images: int) -> dict[str, float]:
    """Prints a row each; the median over rounds of each rate as a share of that of decoding."""
    shares = {}
    print(f"{'':28} {'images/s':>9} {'of decoding':>12}")
    for name, own in times.items():
        shares[name] = statistics.median(d / t for d, t in zip(times["decoding"], own, strict=True))
        target = f"   (at least {TARGETS[name]:g})" if name in TARGETS else ""
        print(f"{name:28} {images / statistics.median(own):9.1f} {shares[name]:12.3f}{target}")
    return shares


def main() -> int:
    """Print the table; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="a folder like COCO128")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    boxes, outlines = coco(options.data, "none"), coco(options.data, "polygons")
    count = min(options.images, len(boxes))

    def loaded(dataset: CocoDataset, transforms: Sequence[v2.Transform]) -> Callable[[], Any]:
        loader = Loader(dataset, transforms, batch_size=4)
        return lambda: run_through(islice(loader.epoch(0), count // 4))

    runs = {
        "decoding": lambda: run_through(boxes[index] for index in range(count // 4 * 4)),
        "boxes at 1333 x 800": loaded(boxes, usual()),
        "outlines at 1333 x 800": loaded(outlines, usual()),
        "mosaic and mixup at 640": loaded(boxes, yolox()),
    }
    shares = rates(in_turns(runs, options.rounds), count // 4 * 4)
    return int(any(shares[name] < target for name, target in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
