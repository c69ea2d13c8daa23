"""Every recipe folds, says nothing unknown, builds its model and makes a step; every fragment is part of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore import load_config, run
from detcore.assemble import build, load, prepare
from detcore.runner.train import begin, step
from torch import Tensor, nn

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.rglob("*.toml") if "_base_" not in path.parts)
QUICKSTARTS = sorted(CONFIGS.parent.glob("plugins/*/src/*/configs/*.toml"))
FRAGMENTS = sorted((CONFIGS / "_base_").rglob("*.toml"))
DRAWN = [
    'classes=["circle", "rectangle", "triangle", "star"]', "val={_delete_=true}", "schedule=[]",
    "train.batch_size=2", "train.workers=0",
]  # fmt: skip
SMALL = {
    "Hourglass-104": ["model.backbone.stage_channels=[32, 32, 48, 48, 48, 64]", "model.backbone.stage_blocks=[1, 1, 1, 1, 1, 1]"],
    "ResNeXt-101": ["model.backbone.depth=50", "model.backbone.groups=1", "model.backbone.base_width=64"],
}  # fmt: skip
"""Backbones that alone would take longer than all others; that they are built at their size, the test above sees."""


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_has_no_problem(recipe: Path) -> None:
    """Its model is built and wired; no weights are fetched, no data is read."""
    classes = [] if "classes" in load_config(str(recipe)).table else ['classes=["cat", "dog"]']
    (line,) = run.check(str(recipe), sets=classes)
    assert line.endswith(f"{name(recipe)}: no problem found")


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_makes_a_step(recipe: Path, tmp_path: Path) -> None:
    """On two drawn images of 128 pixels and few regions, and its transforms, tried before, at their own sizes.

    All that trains has a gradient, so that processes that share a model would not wait for one.
    """
    config, catalog = load(str(recipe), on_drawn_images(recipe, tmp_path))
    parts = build(config, catalog, "cpu", wanted=("model", "train", "optimizer"), load_weights=False)
    training = prepare(parts, tmp_path)
    assert len(next(training.loader.epoch(0))) == 2
    batch = next(attrs.evolve(training.loader, transforms=()).epoch(0))
    begin(training)
    before = totals(parts.model)
    step(training, [batch])
    trained = {name: each for name, each in parts.model.named_parameters() if each.requires_grad}
    assert [name for name, each in trained.items() if each.grad is None or not each.grad.isfinite().all()] == []
    moved = {key.partition(".")[0] for key, total in totals(parts.model).items() if not torch.equal(total, before[key])}
    assert moved == {key.partition(".")[0] for key in trained}


def on_drawn_images(recipe: Path, folder: Path) -> list[str]:
    """Options that put drawn images in place of the recipe's, and leave out what then nobody reads."""
    table: Any = load_config(str(recipe)).table
    outlines = table["train"]["dataset"].get("segmentation", "none") != "none"
    dataset = (
        '{_delete_=true, type="ShapesDataset", length=2, size=[128, 128], empty=0.0, '
        f'classes=["circle", "rectangle", "triangle", "star"], polygons={str(outlines).lower()}}}'
    )
    if table["train"]["dataset"]["type"] == "ProposalsDataset":
        rows = [{"image_id": row % 2, "bbox": [row, row, 60, 40], "score": row / 64} for row in range(64)]
        (folder / "rows.json").write_text(json.dumps(rows))
        own = dataset.replace("_delete_=true, ", "")
        file = json.dumps(str(folder / "rows.json"))
        dataset = f'{{_delete_=true, type="ProposalsDataset", file={file}, dataset={own}}}'
    unread = ["data_root={_delete_=true}"] if "data_root" in table else []
    backbone = table["model"]["backbone"]
    kind = "Hourglass-104" if backbone.get("downsample_times") == 5 else f"ResNeXt-{backbone.get('depth')}"
    stages = table["model"].get("roi_head", {}).get("stages", ())
    regions = [f"model.roi_head.stages.{number}.sampler.num=16" for number in range(len(stages))]
    return [*DRAWN, f"train.dataset={dataset}", *unread, *SMALL.get(kind, []), *regions]


def totals(model: nn.Module) -> dict[str, Tensor]:
    """A number for each parameter that changes when it does."""
    return {key: each.detach().double().sum() for key, each in model.named_parameters()}


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=name)
def test_a_fragment_is_part_of_a_recipe(fragment: Path) -> None:
    named = f"_base_/{fragment.relative_to(CONFIGS / '_base_').as_posix()}"
    assert any(named in recipe.read_text(encoding="utf-8") for recipe in [*RECIPES, *QUICKSTARTS])


def test_the_page_lists_every_recipe() -> None:
    page = (CONFIGS / "README.md").read_text(encoding="utf-8")
    assert [name(recipe) for recipe in RECIPES if f"`{name(recipe)}`" not in page] == []
