"""Every `_debug` recipe trains on real images: in fifty steps its loss falls. All together take minutes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import mean

import pytest
from detcore import load_config, run

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
COCO128 = Path(os.environ.get("DETCORE_TEST_DATA", ROOT.parent / "shared" / "data")) / "coco128"
RECIPES = sorted(CONFIGS.rglob("*_debug.toml"))
DENSE = {"retinanet", "fcos", "atss", "yolox", "yolov3", "cornernet", "centripetalnet"}
STEPS, EPOCHS = 10, 5
FALL = 0.9


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


def first_images(count: int, folder: Path) -> Path:
    """An annotation file of the first images, by id, that have objects."""
    content = json.loads((COCO128 / "annotations" / "instances_train2017.json").read_text())
    full = {each["image_id"] for each in content["annotations"] if not each["iscrowd"]}
    images = sorted((each for each in content["images"] if each["id"] in full), key=lambda image: image["id"])[:count]
    ids = {each["id"] for each in images}
    rows = [each for each in content["annotations"] if each["image_id"] in ids]
    file = folder / "first.json"
    file.write_text(json.dumps({**content, "images": images, "annotations": rows}))
    return file


def test_every_dense_family_has_one() -> None:
    assert {recipe.parent.name for recipe in RECIPES} >= DENSE


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_nothing_is_frozen_and_nothing_is_fetched(recipe: Path) -> None:
    backbone = load_config(str(recipe)).table["model"]["backbone"]
    assert not {"weights", "frozen_stages", "norm"} & set(backbone)
    assert backbone["type"] in ("Hourglass", "CSPDarknet") or backbone["norm_eval"] is False


@pytest.mark.slow
@pytest.mark.skipif(not COCO128.is_dir(), reason=f"no real data at {COCO128}")
@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_fifty_steps_bring_the_loss_down(recipe: Path, tmp_path: Path) -> None:
    """Of five epochs of ten steps: the first and the last see the same images, so that their losses can be compared."""
    batch_size = load_config(str(recipe)).table["train"]["batch_size"]
    images = first_images(STEPS * batch_size, tmp_path)
    sets = [
        f"data_root={json.dumps(str(COCO128))}", f"train.dataset.annotations={json.dumps(str(images))}",
        "val={_delete_=true}", f"train.epochs={EPOCHS}", "train.report_every=1",
    ]  # fmt: skip
    run.train(str(recipe), sets=sets, work_dir=str(tmp_path / "run"), device="cpu")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == STEPS * EPOCHS
    first, last = mean(losses[:STEPS]), mean(losses[-STEPS:])
    print(f"{name(recipe)}: {first:.2f} to {last:.2f}, {last / first:.2f} of it")
    assert last < FALL * first
