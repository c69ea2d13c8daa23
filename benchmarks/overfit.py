"""Whether detectors learn eight images by heart: assignment, losses, decoding and evaluation have to agree for it.

A recipe's model is trained from scratch on the first eight training images of COCO128, by id, that have 2 to 10
objects, all of them at least 32 pixels wide and high where the image's longer side has 256. AP50 is of the same images,
of boxes and, where a recipe has masks, of masks; the lower counts.
Data and optimizer are the script's: always the same batch, nothing random, AdamW, the learning rate up and down once.

    python benchmarks/overfit.py [RECIPE ...] [--steps N] [--lr 1e-3] [--threads 2] [--data FOLDER]

Exits with 1 where AP50 is below 0.9 or a recipe takes more than 8 minutes; says so, and exits with 0, where there is no
such data.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from detcore import load_config
from detcore.assemble import build, load, prepare
from detcore.runner.train import begin, step

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("DETCORE_TEST_DATA", ROOT.parent / "shared" / "data")) / "coco128"
RECIPES = (
    "retinanet/retinanet_debug",
    "fcos/fcos_debug",
    "yolox/yolox_tiny_300e_coco",
    "faster_rcnn/faster_rcnn_debug",
    "mask_rcnn/mask_rcnn_debug",
)
STEPS, MORE_STEPS = 300, {"yolox_tiny_300e_coco": 500}
SIDE, IMAGES = 256, 8
LEAST_AP50, MOST_SECONDS = 0.9, 480.0


@attrs.frozen
class Result:
    """What came of a recipe.

    Attributes:
        ap50: AP at an IoU of 0.5 on the images that were trained on: of boxes, and of masks where there are.
        wall: Seconds on the wall, from the recipe to the score.
        cpu: Seconds of all cores.
    """

    ap50: Sequence[float]
    wall: float
    cpu: float

    @property
    def met(self) -> bool:
        return min(self.ap50) >= LEAST_AP50 and self.wall <= MOST_SECONDS


def chosen(
    content: Mapping[str, Any],
    count: int = IMAGES,
    *,
    side: int = SIDE,
    least: float = 32,
    objects: range = range(2, 11),
) -> list[int]:
    """The first images by id with so many objects, no crowd, all of a size that can be seen.

    Args:
        content: Of an annotation file of COCO.
        count: How many images, at most.
        side: The longer side that images will have, pixels.
        least: Width and height of each object then, pixels.
        objects: How many an image may have.
    """
    boxes: dict[int, list[Sequence[float]]] = defaultdict(list)
    crowded = {each["image_id"] for each in content["annotations"] if each["iscrowd"]}
    for each in content["annotations"]:
        boxes[each["image_id"]].append(each["bbox"])

    def fits(image: Mapping[str, Any]) -> bool:
        scale = side / max(image["width"], image["height"])
        mine = boxes[image["id"]]
        large = all(min(width, height) * scale >= least for _, _, width, height in mine)
        return len(mine) in objects and image["id"] not in crowded and large

    return sorted(image["id"] for image in content["images"] if fits(image))[:count]


def subset(content: Mapping[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """An annotation file with these images only, and all categories."""
    return {
        **content,
        "images": [each for each in content["images"] if each["id"] in ids],
        "annotations": [each for each in content["annotations"] if each["image_id"] in ids],
    }


def settings(table: Mapping[str, Any], annotations: Path, data: Path, steps: int, lr: float) -> list[str]:
    """What is laid over a recipe of this table."""
    outlines = "segm" in table["val"]["evaluator"].get("metrics", ())
    dataset = (
        f'{{_delete_=true, type="CocoDataset", annotations={json.dumps(str(annotations))}, '
        f"images={json.dumps(str(data / 'images' / 'train2017'))}, "
        f'segmentation="{"polygons" if outlines else "none"}"}}'
    )
    transforms = f'[{{type="Resize", size={{_none_=true}}, max_size={SIDE}}}]'
    return [
        *(["data_root={_delete_=true}"] if "data_root" in table else []),
        *(f"{split}.dataset={dataset}" for split in ("train", "val")),
        *(f"{split}.transforms={transforms}" for split in ("train", "val")),
        *(f"{split}.batch_size={IMAGES}" for split in ("train", "val")),
        *(f"{split}.workers=0" for split in ("train", "val")),
        "train.epochs={_delete_=true}",
        f"train.steps={steps}",
        "train.base_batch_size={_none_=true}",
        "train.clip_grad=10.0",
        "preprocess.size={_none_=true}",
        "callbacks={_delete_=true}",
        f'optimizer={{_delete_=true, type="AdamW", lr={lr!r}, weight_decay=1e-4}}',
        'schedule=[{type="OneCycle", pct_start=0.2}]',
    ]


def overfit(
    recipe: Path, *, steps: int = STEPS, lr: float = 1e-3, data: Path = DATA, sets: Sequence[str] = ()
) -> Result:
    """Train a recipe's model on the eight images, and score it on them."""
    wall, cpu = time.perf_counter(), time.process_time()
    content = json.loads((data / "annotations" / "instances_train2017.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder) / "eight.json"
        annotations.write_text(json.dumps(subset(content, chosen(content))))
        table = load_config(str(recipe)).table
        config, catalog = load(str(recipe), [*settings(table, annotations, data, steps, lr), *sets])
        parts = build(config, catalog, "cpu", wanted=("model", "train", "val", "optimizer"), load_weights=False)
        run = prepare(parts, Path(folder) / "run")
        begin(run)
        batch = list(run.loader.epoch(0))
        while not run.over:
            step(run, batch)
            if run.due(25):
                print(f"step {run.step}/{steps}", {name: round(value, 3) for name, value in run.window.close().items()})
        assert run.evaluate is not None
        metrics = run.evaluate(parts.model).metrics
        ap50 = [metrics[name] for name in ("bbox_AP50", "segm_AP50") if name in metrics]
    return Result(ap50, time.perf_counter() - wall, time.process_time() - cpu)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("recipes", nargs="*", type=Path, metavar="RECIPE")
    options.add_argument("--steps", type=int, help="by default as many as the recipe needs")
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    given = options.parse_args()
    if not given.data.is_dir():
        print(f"no real data at {given.data}")
        return 0
    torch.set_num_threads(given.threads)
    results = {}
    for recipe in given.recipes or [ROOT / "configs" / f"{name}.toml" for name in RECIPES]:
        print(f"--- {recipe.stem}")
        steps = given.steps or MORE_STEPS.get(recipe.stem, STEPS)
        results[recipe.stem] = overfit(recipe, steps=steps, lr=given.lr, data=given.data, sets=given.sets)
    print(f"\n{'':28} {'AP50':>14} {'wall':>8} {'CPU':>8}")
    for name, each in results.items():
        scores = " ".join(f"{score:.4f}" for score in each.ap50)
        print(f"{name:28} {scores:>14} {each.wall:6.0f} s {each.cpu:6.0f} s  {'met' if each.met else 'missed'}")
    return 0 if all(each.met for each in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
