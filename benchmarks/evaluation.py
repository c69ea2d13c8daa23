"""COCO's evaluation of made-up detections on made-up images, as many as val2017 has, by both engines.

5,000 images, 36,781 objects of 80 classes, 100 detections an image: of each object one or two near it, the rest
anywhere. The figures, those of each class too, must be the same to 1e-9.

    python benchmarks/evaluation.py [--images 5000] [--metric bbox]

Exits with 1 where they differ, or where pycocotools takes less than 8 times as long.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from contextlib import redirect_stdout
from typing import Any, get_args

import numpy as np
from detcore_coco.evaluator import Engine, Scores, evaluate, scores_of
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

OBJECTS_PER_IMAGE, FOUND, CLASSES = 36781 / 5000, 100, 80
WIDTH, HEIGHT = 640, 480
FASTER, SAME = 8.0, 1e-9


def boxes(rng: np.random.Generator, count: int) -> Any:
    """(N, 4) x, y, width, height, of 8 to 300 pixels, log-uniform."""
    sides = 8 * (300 / 8) ** rng.random((count, 2))
    corners = rng.random((count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate([corners, sides], 1)


def made_up(images: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An instances table, and rows of results."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        truth, labels = boxes(rng, rng.poisson(OBJECTS_PER_IMAGE)), rng.integers(CLASSES, size=FOUND)
        crowd = rng.random(len(truth)) < 0.012
        annotations += [
            {"id": len(annotations) + number, "image_id": image, "category_id": int(label) + 1, "bbox": box.tolist(),
             "area": float(0.6 * box[2] * box[3]), "iscrowd": int(is_crowd)}
            for number, (box, label, is_crowd) in enumerate(zip(truth, labels, crowd, strict=False), 1)
        ]  # fmt: skip
        near = np.concatenate([truth, truth[::2]])[:FOUND]
        near = near + rng.normal(size=near.shape) * 0.1 * near[:, 2:].repeat(2, 1)[:, [0, 2, 1, 3]]
        found = np.concatenate([np.maximum(near, 1.0), boxes(rng, FOUND - len(near))])
        of_near = np.concatenate([labels[: len(truth)], labels[: len(truth) : 2]])[:FOUND]
        classes = np.concatenate([of_near, rng.integers(CLASSES, size=FOUND - len(near))])
        scores = rng.random(FOUND)
        rows += [
            {"image_id": image, "category_id": int(label) + 1, "bbox": box.tolist(), "score": float(score)}
            for box, label, score in zip(found, classes, scores, strict=True)
        ]
    content = {
        "images": [{"id": number, "width": WIDTH, "height": HEIGHT} for number in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)],
    }
    return content, rows


def with_pycocotools(content: dict[str, Any], rows: list[dict[str, Any]], metric: Any) -> Scores:
    """As its own users call it."""
    if metric == "proposal":
        return evaluate(content, rows, metric, "pycocotools")
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([{**row} for row in rows]), metric)
        evaluation.evaluate()
        evaluation.accumulate()
    return scores_of(evaluation)


def timed(content: dict[str, Any], rows: list[dict[str, Any]], metric: Any, engine: Engine) -> tuple[Scores, float]:
    """What it says, and seconds."""
    began = time.perf_counter()
    own = engine == "faster"
    scores = evaluate(content, rows, metric, engine) if own else with_pycocotools(content, rows, metric)
    seconds = time.perf_counter() - began
    print(f"{engine:12} {seconds:6.1f} s   AP {scores.figures.get('AP', float('nan')):.4f}", flush=True)
    return scores, seconds


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=5000)
    options.add_argument("--metric", choices=("bbox", "proposal"), default="bbox")
    given = options.parse_args()
    content, rows = made_up(given.images)
    print(f"{given.images} images, {len(content['annotations'])} objects, {len(rows)} detections")
    results = {engine: timed(content, rows, given.metric, engine) for engine in get_args(Engine)}
    (fast, seconds), (exact, most) = results["faster"], results["pycocotools"]
    pairs = [(fast.figures[name], value) for name, value in exact.figures.items()]
    pairs += [(fast.per_class[id_], value) for id_, value in exact.per_class.items()]
    difference, times = max(abs(left - right) for left, right in pairs), most / seconds
    met = difference <= SAME and times >= FASTER
    print(f"{len(pairs)} figures differ by {difference:.1e} at most; {times:.1f} times as fast")
    print("met" if met else f"missed: at most {SAME:.0e}, at least {FASTER:.0f} times")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
