"""Test-time augmentation around real detectors: trained as without, evaluated by one small file, bit for bit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from contracts import tiny_detectors
from detcore import run
from detcore.cli import main
from detcore.structures import Detections
from detcore_tta.tta import TTA
from detcore_tta.views import flip_found, flipped

ROOT = Path(__file__).parents[2]
SMALL = """
[train]
epochs = 1
batch_size = 2
dataset.length = 4
[val]
dataset.length = 4
batch_size = 4
[model]
backbone.width = 8
neck.out_channels = 16
head.network = { channels = 16, stacked_convs = 1, norm.num_groups = 4 }
head.decoder = { score_threshold = 0.0, max_detections = 20 }
"""
WRAPPED = """
_base_ = "small.toml"
[model]
_wrap_ = "detector"
type = "TTA"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(f'_base_ = "{(ROOT / "configs" / "quickstart.toml").as_posix()}"\n{SMALL}')
    (tmp_path / "tta.toml").write_text(WRAPPED)
    (tmp_path / "none.toml").write_text(f'{WRAPPED}flips = ["none"]\nmost = 1\n')
    return tmp_path


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(words)
    return int(caught.value.code or 0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]
    return loaded


def test_two_steps_of_training_are_those_of_the_bare_detector(folder: Path) -> None:
    assert run.check(str(folder / "tta.toml"))[-1].endswith("no problem found")
    for name in ("small", "tta"):
        rule = "params={backbone={match='^backbone', lr=0.1}}"
        options = ["--set", rule, "--set", "val={_delete_=true}", "--work-dir", str(folder / name), "--device", "cpu"]
        assert ended("train", str(folder / f"{name}.toml"), *options) == 0
    bare, wrapped = weights(folder / "small"), weights(folder / "tta")
    assert [*bare] == [*wrapped]
    assert all(torch.equal(value, wrapped[name]) for name, value in bare.items())


def test_a_checkpoint_is_evaluated_with_it_and_without(folder: Path) -> None:
    options = ["--work-dir", str(folder / "run"), "--device", "cpu", "--set", "val={_delete_=true}"]
    assert ended("train", str(folder / "tta.toml"), *options) == 0
    checkpoint = str(folder / "run" / "checkpoints" / "last.pt")
    rows = {}
    for name, config, *sets in (
        ("bare", "small"),
        ("flips", "tta"),
        ("option", "small", "--set", 'model={_wrap_="detector", type="TTA"}'),
        ("none", "none"),
    ):
        output = folder / f"{name}.json"
        words = ["eval", str(folder / f"{config}.toml"), checkpoint, "--output", str(output), "--device", "cpu"]
        assert ended(*words, *sets) == 0
        rows[name] = json.loads(output.read_text())
    assert rows["none"] == rows["bare"]  # bit for bit
    assert rows["option"] == rows["flips"] != rows["bare"]


def test_what_the_readme_shows_is_right(folder: Path) -> None:
    page = (ROOT / "plugins" / "tta" / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (folder / "shown.toml").write_text(shown.replace('"my.toml"', '"small.toml"'))
    assert run.check(str(folder / "shown.toml"))[-1].endswith("no problem found")
    options = re.findall(r"--set '(.*?)'", page)
    assert len(options) == 2
    for option in options:
        assert run.check(str(folder / "small.toml"), sets=[option])[-1].endswith("no problem found")


@pytest.mark.parametrize("name", ["FCOS", "Mask R-CNN"])
def test_of_real_detectors_a_single_view_is_bare_and_mirrored_images_give_mirrored_detections(
    name: str, tmp_path: Path
) -> None:
    bare: Any = tiny_detectors.detector(name, tmp_path).eval()
    batch = tiny_detectors.batch(96, 128)
    sizes = torch.tensor([[90.0, 121], [96, 128]])
    batch = attrs.evolve(batch, targets=None, sizes=sizes)
    with torch.no_grad():
        expected, single = bare.detections(batch), TTA(detector=bare, flips=["none"]).detections(batch)
        both = TTA(detector=bare, scales=[1.0, 0.75])
        ours, mirrored = both.detections(batch), both.detections(flipped(batch, "horizontal"))
    for one, other in zip(single, expected, strict=True):
        for field in attrs.fields(Detections):
            mine, its = getattr(one, field.name), getattr(other, field.name)
            assert mine is its or torch.equal(mine, its)
    for one, other, size in zip(ours, mirrored, sizes, strict=True):
        back = flip_found(other, size, "horizontal")
        assert len(one) == len(back) > 0
        assert (one.masks is None) == (name == "FCOS")
        for row in range(len(one)):  # those that hardly differ in score may be in another order
            assert one.scores[row] < one.scores[-1] + 1e-3 or has_partner(one, row, back)


def has_partner(found: Detections, row: int, others: Detections) -> bool:
    near = (others.boxes - found.boxes[row]).abs().amax(1) < 0.05
    near &= ((others.scores - found.scores[row]).abs() < 1e-4) & (others.labels == found.labels[row])
    if found.masks is not None and others.masks is not None:
        near &= (others.masks - found.masks[row]).abs().flatten(1).amax(1) < 1e-2
    return bool(near.any())
