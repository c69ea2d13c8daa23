"""Losses that are made NaN on purpose: the run stops, says where it began, and one command shows it again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from detcore import run
from detcore.cli import main
from detcore.data import RawBatch, collate
from detcore.errors import TrainingError
from detcore.loading import read
from detcore.runner.checkpoint import write_atomically
from detcore.runner.nonfinite import _unpacked
from detcore.structures import Polygons
from torchvision import tv_tensors

TOY = Path(__file__).parents[1] / "toy_plugin.py"
FAULTS = '''
import torch
from detcore import Component, hookimpl
from detcore.interfaces import Callback, Channels, Factory, Norm, NumClasses
from torch import nn
from toy_plugin import ToyBackbone, ToyDataset, ToyHead


@hookimpl
def detcore_components():
    kinds = {"dataset": "Marked", "backbone": "Fragile", "dense_head": "Head", "callback": "Break"}
    poison = Component("callback", "Poison", f"{__name__}:Poison")
    return [poison, *(Component(kind, name, f"{__name__}:{name}") for kind, name in kinds.items())]


class Marked(ToyDataset):
    """A pixel of image 5 is brighter than those of the others."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        if index == 5:
            image[0, 0, 0] = 255
        return image, target


class Where(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x, bad):
        return torch.where(bad, self.value, x)


class Fragile(ToyBackbone):
    """Cannot live with the bright pixel."""

    def __init__(self, *, norm: Factory[Norm] | None = None, dropout: float = 0.0):
        super().__init__(norm=norm, dropout=dropout)
        self.where = Where(float("nan"))

    def forward(self, images):
        bad = (images[:, 0] > 2.2).any()
        return [self.dropout(self.norm(self.where(self.conv(images), bad)).relu())]


class Head(ToyHead):
    """Its loss, or only its gradient, is not finite for the bright pixel; or now and then."""

    def __init__(self, *, in_channels: Channels[int], num_classes: NumClasses, what: str):
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.what = what

    def losses(self, predictions, batch):
        losses = super().losses(predictions, batch)
        bad = (batch.images[:, 0] > 2.2).any() if self.what != "chance" else torch.rand(()) > 0.8
        zero = self.cls.weight.sum() * 0
        extra = zero.sqrt() if self.what == "gradient" else zero + float("inf")
        return {**losses, "loss_cls": losses["loss_cls"] + extra} if bad else losses


class Break(Callback):
    """Weights that are not a number, after the first step."""

    stage = "update"

    def step_done(self, run, losses):
        run.detector.backbone.conv.weight.data[0, 0] = float("nan")


class Poison(Callback):
    """Batches that are not a number at the third step of a run with this seed."""

    stage = "update"

    def run_started(self, run):
        self.poison(run.detector, lambda: (run.seed, run.step))

    def step_replayed(self, detector, seed, step):
        self.poison(detector, lambda: (seed, step))

    def poison(self, detector, place):
        def hook(module, inputs):
            if place() == (3, 2):
                inputs[0].images[:] = float("nan")

        detector.register_forward_pre_hook(hook)
'''
CONFIG = """
[plugins]
local = ["TOY", "faults.py"]
[model]
type = "OneStage"
backbone = { type = "ToyBackbone", norm = { type = "BN" }, dropout = 0.5 }
head = { type = "ToyHead" }
[train]
dataset = { type = "Marked", length = 12 }
epochs = 3
batch_size = 2
clip_grad = 1.0
[optimizer]
type = "SGD"
lr = 0.01
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOY.parent))
    Path("faults.py").write_text(FAULTS)
    Path("toy.toml").write_text(CONFIG.replace("TOY", TOY.as_posix()))
    return "toy.toml"


def replayed(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and last line of ``core-run replay``."""
    with pytest.raises(SystemExit) as ended:
        main(["replay", *words])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), (printed.out + printed.err).strip().splitlines()[-1]


FRAGILE = 'model.backbone.type="Fragile"'
CASES: dict[str, tuple[list[str], str, str]] = {
    "an output": ([FRAGILE], "loss_cls is nan, loss_box is nan", "the first output that is not finite is that of backbone.where (Where)"),
    "an output, in the second batch of a step": (
        [FRAGILE, "train.accumulate=6"],
        "loss_cls is nan, loss_box is nan",
        "the first output that is not finite is that of backbone.where (Where)",
    ),
    "an output, in bf16": (
        [FRAGILE, 'train.amp="bf16"'],
        "loss_cls is nan, loss_box is nan",
        "the first output that is not finite is that of backbone.where (Where)",
    ),
    "a loss": (
        ['model.head={type="Head", what="loss"}'],
        "loss_cls is inf",
        "every module's output is finite, but not loss_cls inf",
    ),
    "a loss, by chance": (
        ['model.head={type="Head", what="chance"}', "train.accumulate=2"],
        "loss_cls is inf",
        "every module's output is finite, but not loss_cls inf",
    ),
    "a gradient": (
        ['model.head={type="Head", what="gradient"}'],
        "grad_norm is nan",
        "the first gradient that is not finite is that of head.cls.weight",
    ),
    "a gradient, of an earlier batch of the step": (
        ['model.head={type="Head", what="gradient"}', "train.accumulate=6"],
        "grad_norm is nan",
        "the first gradient that is not finite is that of head.cls.weight",
    ),
    "weights": (
        ['callbacks.break={type="Break"}'],
        "loss_cls is nan, loss_box is nan",
        "the weights were not finite before: backbone.conv.weight",
    ),
    "what a callback makes of the batch": (
        ['callbacks.poison={type="Poison"}', "seed=3"],
        "loss_cls is nan, loss_box is nan",
        "the first output that is not finite is that of backbone.conv (Conv2d)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sets", "told", "began"), CASES.values(), ids=CASES.keys())
def test_it_stops_says_where_it_began_and_one_command_shows_it_again(
    config: str, sets: list[str], told: str, began: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingError) as caught:
        run.train(config, sets=sets, work_dir="out", device="cpu")
    (file,) = Path("out/nonfinite").iterdir()
    step, ids = re.fullmatch(
        rf"step (\d+): {re.escape(told)} for images ([\d, ]+); {re.escape(began)}\. Lower the learning rate, .* "
        rf"The batch is saved: core-run replay {file}",
        str(caught.value),
    ).groups()  # type: ignore[union-attr]
    assert file.name == f"step-{step}.pt"
    if "chance" not in str(sets) and "callbacks" not in str(sets):
        assert "5" in ids.split(", ")
    Path("with.toml").write_text("\n".join([f'_base_ = "{config}"', *sets]))
    assert replayed("with.toml", str(file), "--device", "cpu", capsys=capsys) == (0, f"{file}: {began}")


def test_a_step_that_is_finite_after_all_says_so(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError):
        run.train(config, sets=[FRAGILE], work_dir="out", device="cpu")
    (file,) = Path("out/nonfinite").iterdir()
    assert replayed(config, str(file), capsys=capsys) == (1, f"{file}: all of it is finite")


def test_a_file_that_wants_local_modules_needs_a_config(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError):
        run.train(config, sets=[FRAGILE], work_dir="out", device="cpu")
    (file,) = Path("out/nonfinite").iterdir()
    code, line = replayed(str(file), capsys=capsys)
    assert code == 2
    assert line.endswith("Name the config before it if you trust them.")


def test_other_files_are_refused(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    run.train(config, sets=["train.epochs=1"], work_dir="out", device="cpu")
    file = "out/checkpoints/last.pt"
    line = "holds no batch to replay. A run that meets a loss that is not finite saves one in its folder nonfinite/."
    assert replayed(config, file, capsys=capsys) == (2, f"{file}: {line}")
    assert replayed("a", "b", "c", capsys=capsys)[0] == 2


def test_batches_survive_their_file(tmp_path: Path) -> None:
    """Polygons, masks, none, and images of several sizes."""

    def sample(number: int, **more: Any) -> Any:
        image = torch.full((3, 8 + number, 8), number, dtype=torch.uint8)
        boxes = tv_tensors.BoundingBoxes([[0.0, 0, 4, 4]], format="XYXY", canvas_size=(8, 8))
        return tv_tensors.Image(image), {"boxes": boxes, "labels": torch.tensor([1]), "image_id": number, **more}

    points = tv_tensors.KeyPoints(torch.rand(3, 2), canvas_size=(8, 8))
    polygons = {"polygons": points, "offsets": torch.tensor([0, 3]), "owner": torch.tensor([0])}
    for more in (polygons, {"masks": torch.ones(1, 8, 8)}, {}):
        raw = collate([sample(1, **more), sample(2, **more)])
        write_atomically({"batch": attrs.asdict(raw)}, tmp_path / "x.pt")
        again = _unpacked(read(tmp_path / "x.pt")["batch"])
        assert equal(raw, again)
        assert "polygons" not in more or isinstance(again.targets.masks[0], Polygons)  # type: ignore[union-attr,index]


def equal(one: RawBatch, two: RawBatch) -> bool:
    def flat(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.tolist(), value.dtype
        if attrs.has(type(value)):
            return type(value), flat(attrs.asdict(value, recurse=False))
        if isinstance(value, dict):
            return {key: flat(each) for key, each in value.items()}
        return [*map(flat, value)] if isinstance(value, list | tuple) else value

    return bool(flat(one) == flat(two))
