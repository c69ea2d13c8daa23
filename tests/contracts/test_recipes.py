"""Recipes on the real thing: other backbones by one option, real images with COCO's ids, one mistake of wiring."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from detcore import run
from detcore.assemble import Parts, build, load
from detcore.data import Loader
from detcore.errors import ConfigError
from detcore.preprocess import to_original
from detcore.runner.evaluate import evaluation_mode
from detcore.trained import load_checkpoint

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "configs" / "quickstart.toml")
FCOS = str(ROOT / "configs" / "fcos" / "fcos_r50_caffe_fpn_gn_1x_coco.toml")
COCO128 = Path(os.environ.get("DETCORE_TEST_DATA", ROOT.parent / "shared" / "data")) / "coco128"
TINY = [
    "train.dataset.length=4", "train.batch_size=2", "train.epochs=1", "val.dataset.length=2",
    "vars.size=[96, 96]",
]  # fmt: skip


@pytest.mark.parametrize(
    "backbone", ["timm/mobilenetv3_small_100", "timm/convnext_atto", "regnet_y_400mf"], ids=lambda name: name
)
def test_another_backbone_is_one_option(backbone: str, tmp_path: Path) -> None:
    swap = [f"model.backbone={backbone}"]
    metrics = run.train(QUICKSTART, sets=TINY, swaps=swap, work_dir=str(tmp_path), device="cpu")
    assert "bbox_AP50" in metrics


def test_a_wrong_explicit_channel_count_names_both_parts_both_values_both_files(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'_base_ = "{QUICKSTART}"\nmodel.neck.in_channels = [1, 2, 3]\n')
    with pytest.raises(ConfigError) as raised:
        build(*load(str(tmp_path / "mine.toml")), "cpu")
    message = str(raised.value)
    for part in (
        "mine.toml: model.neck.in_channels",
        "[1, 2, 3]",
        "neck FPN",
        "backbone ResNet",
        "quickstart.toml: model.backbone",
    ):
        assert part in message


@pytest.mark.skipif(not COCO128.is_dir(), reason=f"no real data at {COCO128}")
def test_fcos_trains_on_real_images_and_speaks_cocos_ids(tmp_path: Path) -> None:
    small = "{type='Resize', size=128, max_size=160, antialias=false}"
    sets = [
        f"data_root={json.dumps(str(COCO128))}",
        *(f"{split}.dataset.images='${{data_root}}/images/{split}2017'" for split in ("train", "val")),
        *(f"{split}.transforms.Resize={small}" for split in ("train", "val")),
        "train.dataset.keep_empty=true", "train.batch_size=5", "train.epochs={_delete_=true}", "train.steps=4", "train.workers=0", "val.workers=0",
        "model.head.decoder.score_threshold=0.0", "model.head.decoder.max_detections=1000",
    ]  # fmt: skip
    metrics = run.train(FCOS, sets=sets, work_dir=str(tmp_path), device="cpu")
    assert {"bbox_AP", "bbox_AP50"} <= set(metrics)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert max(steps) == 4
    parts = build(*load(FCOS, sets), "cpu", wanted=("model", "val"))
    load_checkpoint(parts, tmp_path / "checkpoints" / "last.pt")
    rows = results(parts)
    truth = json.loads((COCO128 / "annotations" / "instances_val2017.json").read_text())
    ids = {category["id"] for category in truth["categories"]}
    assert len(parts.classes) == 80
    assert max(ids) == 90
    assert {row["category_id"] for row in rows} <= ids
    assert max(row["category_id"] for row in rows) > 80
    assert {row["image_id"] for row in rows} <= {image["id"] for image in truth["images"]}


def results(parts: Parts) -> list[dict[str, Any]]:
    """What the evaluator would write, of the first 20 images."""
    settings = parts.val
    assert settings is not None
    evaluator: Any = settings.evaluator(settings.dataset)
    loader = Loader(settings.dataset, settings.transforms, batch_size=5)
    with evaluation_mode(parts.model):
        for raw, _ in zip(loader.epoch(0), range(4), strict=False):
            batch = parts.preprocess(raw)
            evaluator.update(to_original(parts.model.detections(batch), batch), batch.ids)
    rows: list[dict[str, Any]] = evaluator.results()
    return rows
