"""The components of ``toy_plugin`` as an installed plugin, a config of them, and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from detcore import run

CONFIG = """
classes = ["red", "green"]
[model]
type = "OneStage"
backbone = { type = "ToyBackbone" }
head = { type = "ToyHead" }
[preprocess]
divisor = 16
[train]
dataset = { type = "ToyDataset" }
epochs = 1
batch_size = 4
[val]
dataset = { type = "ToyDataset", length = 6 }
evaluator = { type = "ToyEvaluator" }
transforms = [{ type = "Resize", size = [40, 56] }]
batch_size = 4
[optimizer]
type = "SGD"
lr = 0.1
"""
CHECKPOINT = "out/checkpoints/last.pt"


def train_toys(folder: Path) -> Path:
    """``toy.toml``, its checkpoint at :data:`CHECKPOINT`, and what makes Python find the plugin."""
    info = folder / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[detcore]\ntoys = toy_plugin\n")
    (folder / "toy.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        run.train("toy.toml", work_dir="out")
    return folder


def enter(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Be in a folder whose plugins are found."""
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    return folder
