"""What opening a COCO file of train2017's size costs: the first time, and once its arrays are in the cache.

Writes a file of 118,287 images with 860,001 outlined objects (or takes ``--file``) and as many empty image files, then
opens it as ``CocoDataset`` with outlines in processes of their own: cold, with an empty cache, and warm. Memory is what
a process has above what it had after its imports (PSS, of which mapped files are a part: Linux alone tells it), asked
for in runs of their own, as asking takes time. The file itself is in the system's cache, as it was just written.
Machines differ: targets of seconds are meant for one on which pycocotools needs 21 s for the same file, and grow and
shrink with what it needs in the same run. Exits with 1 if a target is missed::

    python benchmarks/index.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np

IMAGES, OBJECTS, CLASSES = 118_287, 860_001, 80
TARGETS = {"cold": (5.0, 1200.0), "warm": (0.3, 200.0)}
"""Seconds, and megabytes at the most, that each may take, where pycocotools opens the file in ``PEER`` seconds."""
PEER = 21.0
STEP = 0.01
"""Seconds between two looks at the memory."""


@attrs.frozen
class Cost:
    """Seconds of an opening, by the clock and of the processor; the most megabytes, 0 where they were not asked for."""

    seconds: float
    processor: float
    megabytes: float
    objects: int


# ------------------------------------------------------------------------------------------------------------ the file


def write_file(path: Path, share: float) -> None:
    """A file of COCO's form: each object has an outline of 10 to 49 points with two digits."""
    draw = np.random.default_rng(0)
    count = max(1, int(IMAGES * share))
    sizes = draw.integers(300, 641, (count, 2))
    with path.open("w", encoding="utf-8") as file:
        file.write('{"images": [')
        file.write(", ".join(f"{{{image(row, *sizes[row].tolist())}}}" for row in range(count)))
        file.write('], "categories": [')
        file.write(", ".join(f'{{"id": {number}, "name": "class {number}"}}' for number in range(1, CLASSES + 1)))
        file.write('], "annotations": [')
        for number, text in enumerate(entries(draw, sizes, int(OBJECTS * share))):
            file.write(f", {text}" if number else text)
        file.write("]}")


def image(row: int, width: int, height: int) -> str:
    id_ = 5 * row + 9
    return f'"id": {id_}, "file_name": "{id_:012d}.jpg", "width": {width}, "height": {height}'


def entries(draw: np.random.Generator, sizes: np.ndarray, count: int) -> Iterator[str]:
    images, labels = draw.integers(0, len(sizes), count).tolist(), draw.integers(1, CLASSES + 1, count).tolist()
    for number, (row, label, corners) in enumerate(zip(images, labels, draw.integers(10, 50, count), strict=True), 1):
        points = (draw.random((corners, 2)) * (sizes[row] - 1)).round(2)
        low, extent = points.min(0), np.ptp(points, 0).round(2).clip(0.01)
        said = {
            "segmentation": [points.ravel().tolist()],
            "area": round(float(extent.prod()) / 2, 4),
            "iscrowd": 0,
            "image_id": 5 * row + 9,
            "bbox": [*low.tolist(), *extent.tolist()],
            "category_id": label,
            "id": number,
        }
        yield json.dumps(said)


def make_images(path: Path, folder: Path) -> None:
    """An empty file for each image: opening a data set asks which are there, and reads none."""
    from detcore_coco.reading import ImageRow, read_rows

    for row in read_rows(path, False, ImageRow)[0]:
        file = folder / row.file_name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


# --------------------------------------------------------------------------------------------------------- one opening


def memory() -> float:
    """Megabytes of this process, its part of what is shared (PSS)."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def open_once(file: Path, images: Path, watched: bool) -> Cost:
    """In this process, whose imports do not count."""
    from detcore_coco.dataset import CocoDataset

    before = memory()
    most, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(STEP):
            most.append(memory())

    watcher = threading.Thread(target=watch)
    if watched:
        watcher.start()
    began, worked = time.perf_counter(), time.process_time()
    dataset = CocoDataset(annotations=str(file), images=str(images), segmentation="polygons")
    seconds, processor = time.perf_counter() - began, time.process_time() - worked
    done.set()
    if watched:
        watcher.join()
        most.append(memory())
    objects = sum(len(dataset.rows(index)) for index in range(len(dataset)))
    return Cost(seconds, processor, max(most) - before, objects)


def opened(file: Path, images: Path, cache: Path, watched: bool) -> Cost:
    """In a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--file",
        str(file),
        "--open",
        str(images),
        *(["--watched"] if watched else []),
    ]
    environment = {**os.environ, "DETCORE_CACHE": str(cache)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return Cost(**json.loads(done.stdout))


def measure(file: Path, images: Path, folder: Path, rounds: int) -> dict[str, Cost]:
    """Median seconds and the most memory of each, cold and warm."""
    runs: dict[str, list[Cost]] = {name: [] for name in TARGETS}
    for number in range(2 * rounds):
        cache = folder / f"cache {number}"
        for each in runs.values():  # cold, then warm
            each.append(opened(file, images, cache, watched=number % 2 == 1))
        shutil.rmtree(cache)
    return {name: middle(each) for name, each in runs.items()}


def peer(file: Path) -> float:
    """Seconds that pycocotools takes to open the file, in a process of its own."""
    code = "import sys, time; from pycocotools.coco import COCO; t = time.perf_counter(); COCO(sys.argv[1]); "
    code += "print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def middle(runs: list[Cost]) -> Cost:
    """The median seconds of the runs that were not watched, the most memory of those that were."""
    plain = runs[::2]
    return Cost(
        statistics.median(run.seconds for run in plain),
        statistics.median(run.processor for run in plain),
        max(run.megabytes for run in runs),
        runs[0].objects,
    )


def report(costs: dict[str, Cost], theirs: float, judged: bool) -> bool:
    """Prints a row each; whether all targets are met."""
    print(f"{costs['cold'].objects} objects with outlines; pycocotools takes {theirs:.1f} s\n")
    print("      seconds   of CPU    MB   target")
    every = True
    for name, cost in costs.items():
        seconds, megabytes = TARGETS[name]
        seconds *= theirs / PEER
        met = cost.seconds < seconds and cost.megabytes < megabytes
        verdict = ("met" if met else "missed") if judged else "not judged: another file"
        limit = f"< {seconds:.2f} s, < {megabytes:g} MB"
        print(f"{name:5} {cost.seconds:7.2f} {cost.processor:8.2f} {cost.megabytes:5.0f}   {limit}: {verdict}")
        every &= met
    return every or not judged


def main() -> int:
    """Print the table; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, help="an instances file, instead of one that is written")
    parser.add_argument("--share", type=float, default=1.0, help="of train2017's size that is written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        print(json.dumps(attrs.asdict(open_once(options.file, options.open, options.watched))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = options.file or folder / "train.json"
        if not options.file:
            write_file(file, options.share)
        make_images(file, folder / "images")
        theirs = peer(file)
        costs = measure(file, folder / "images", folder, options.rounds)
    judged = costs["cold"].objects >= OBJECTS
    return 0 if report(costs, theirs, judged) else 1


if __name__ == "__main__":
    sys.exit(main())
