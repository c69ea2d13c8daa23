"""Averaged weights, early stopping and a switch of transforms: their arithmetic, and that resuming changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from core.runner.test_checkpoint import KillAfter, Killed
from core.runner.tiny import tiny_run
from core.test_run import CONFIG, TOY
from detcore import load_detector
from detcore import run as story
from detcore.callbacks.ema import EMA
from detcore.callbacks.stopping import EarlyStopping
from detcore.callbacks.switch import PipelineSwitch
from detcore.errors import ConfigError, UserError
from detcore.interfaces import Callback
from detcore.runner.checkpoint import resume
from detcore.runner.evaluate import Evaluation
from detcore.runner.state import Run
from detcore.runner.train import train
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms.v2 import Transform

# ------------------------------------------------------------------------------------------------------------- EMA


class Torchs(Callback):
    """torch's own average, beside."""

    stage = "update"

    def __init__(self, momentum: float, buffers: str) -> None:
        self.momentum, self.buffers = momentum, buffers

    def run_started(self, run: Run) -> None:
        average = get_ema_multi_avg_fn(1 - self.momentum)
        self.model = AveragedModel(run.detector, multi_avg_fn=average, use_buffers=self.buffers == "average")
        self.model.update_parameters(run.detector)  # the first update copies

    def step_done(self, run: Run, losses: Any) -> None:
        self.model.update_parameters(run.detector)


@pytest.mark.parametrize("buffers", ["copy", "average"])
def test_a_constant_average_is_torchs(tmp_path: Path, buffers: Any) -> None:
    torchs = Torchs(0.125, buffers)
    run = tiny_run(tmp_path, callbacks={"ema": EMA(momentum=0.125, buffers=buffers), "torch": torchs})
    train(run)
    ours = run.averaged.state_dict()  # type: ignore[union-attr]
    theirs = torchs.model.module.state_dict()
    assert {name for name, value in ours.items() if not torch.equal(value, theirs[name])} <= {
        "norm.num_batches_tracked"
    }
    assert ours["norm.num_batches_tracked"] == 12
    assert not torch.equal(ours["conv.weight"], run.detector.conv.weight)  # type: ignore[union-attr]
    assert torch.equal(ours["norm.running_mean"], run.detector.norm.running_mean) == (buffers == "copy")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [0.0002] * 3),
        ({"momentum": 0.1, "warmup": "linear"}, [9 / 11, 9 / 12, 9 / 13]),
        ({"momentum": 0.8, "warmup": "linear"}, [9 / 11, 0.8, 0.8]),
        ({"warmup": "exponential"}, [1 - 0.9998 * (1 - math.exp(-t / 2000)) for t in (1, 2, 3)]),
        ({"momentum": 0.5, "warmup": "exponential", "gamma": 1}, [1 - 0.5 * (1 - math.exp(-t)) for t in (1, 2, 3)]),
    ],
)
def test_the_weight_of_the_newest_comes_down(options: Any, weights: list[float]) -> None:
    assert [EMA(**options).weight(update) for update in (1, 2, 3)] == pytest.approx(weights, rel=1e-12)


def test_updates_are_so_many_steps_apart_and_the_copy_does_not_train(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Watch(Callback):
        def step_done(self, run: Run, losses: Any) -> None:
            seen.append(run.averaged.conv.weight.detach().clone())  # type: ignore[union-attr]

    ema = EMA(momentum=0.5, every=4)
    run = tiny_run(tmp_path, callbacks={"ema": ema, "watch": Watch()})
    start = run.detector.conv.weight.detach().clone()  # type: ignore[union-attr]
    train(run)
    assert ema.updates == 3
    assert [torch.equal(one, two) for one, two in zip([start, *seen], seen, strict=False)] == [
        True,
        True,
        True,
        False,
    ] * 3
    assert run.averaged is not None
    assert not any(module.training for module in run.averaged.modules())
    assert not any(parameter.requires_grad for parameter in run.averaged.parameters())
    assert all(module.training for module in run.detector.modules())


def ema_run(folder: Path, *, kill: int = 0, **more: Any) -> Run:
    callbacks: dict[str, Callback] = {"ema": EMA(momentum=0.1, warmup="exponential", gamma=5, buffers="average")}
    if kill:
        callbacks["kill"] = KillAfter(kill)
    return tiny_run(folder, callbacks=callbacks, **more)


@pytest.mark.parametrize("kill", [3, 8])
def test_a_killed_run_ends_with_the_same_average(tmp_path: Path, kill: int) -> None:
    straight, killed = ema_run(tmp_path / "straight"), ema_run(tmp_path / "killed", kill=kill, save_every=1)
    train(straight)
    with pytest.raises(Killed):
        train(killed)
    again = ema_run(tmp_path / "killed")
    resume(again, tmp_path / "killed" / "checkpoints" / "last.pt")
    assert again.step == kill - 1
    train(again)
    for one, two in ((straight.detector, again.detector), (straight.averaged, again.averaged)):
        first, second = one.state_dict(), two.state_dict()  # type: ignore[union-attr]
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.callbacks["ema"].updates == 12  # type: ignore[attr-defined]


def test_the_average_is_validated_and_saved(tmp_path: Path) -> None:
    scored: list[nn.Module] = []
    run = ema_run(tmp_path, evaluate=lambda detector, tick: scored.append(detector) or Evaluation({"AP": 0.5}))
    train(run)
    assert scored == [run.averaged] * 2
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    average = run.averaged.state_dict()  # type: ignore[union-attr]
    assert checkpoint["averaged"].keys() == average.keys()
    assert all(torch.equal(value, average[name]) for name, value in checkpoint["averaged"].items())
    assert not torch.equal(checkpoint["averaged"]["conv.weight"], checkpoint["model"]["conv.weight"])


def test_an_average_that_is_first_asked_for_on_resuming_begins_with_the_weights(tmp_path: Path) -> None:
    train(tiny_run(tmp_path, epochs=1))
    run = ema_run(tmp_path)
    resume(run, tmp_path / "checkpoints" / "last.pt")
    start = run.detector.conv.weight.detach().clone()  # type: ignore[union-attr]
    run.callbacks["ema"].run_started(run)
    assert torch.equal(run.averaged.conv.weight, start)  # type: ignore[union-attr]


# --------------------------------------------------------------------------------------------------- early stopping


def stopping_run(folder: Path, values: Sequence[float], name: str = "AP", *, kill: int = 0, **options: Any) -> Run:
    """Epochs of one step whose validations give ``values``, as far as it gets."""
    run: Run

    def evaluate(detector: nn.Module, tick: Any) -> Evaluation:
        return Evaluation({name: values[run.epoch], "other": 1.0})

    callbacks = {"stop": EarlyStopping(**options), **({"kill": KillAfter(kill)} if kill else {})}
    run = tiny_run(folder, length=2, epochs=len(values), evaluate=evaluate, callbacks=callbacks)
    return run


STOPS = {
    "no better for two": ([0.1, 0.2, 0.2, 0.15, 0.9], {"patience": 2}, 4),
    "better in between": ([0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.9], {"patience": 2}, 6),
    "better by too little": ([0.1, 0.15, 0.18, 0.9], {"patience": 2, "min_delta": 0.1}, 3),
    "less is better": ([3.0, 2.0, 2.5, 2.5, 1.0], {"patience": 2, "mode": "min"}, 4),
    "not a number": ([math.nan, math.nan, 0.3], {"patience": 2}, 2),
    "a number after all": ([math.nan, 0.3, 0.4], {"patience": 2}, 3),
    "always better": ([0.1, 0.2, 0.3], {"patience": 1}, 3),
    "another metric": ([0.1, 0.2, 0.3, 0.4], {"patience": 2, "metric": "other"}, 3),
}


@pytest.mark.parametrize(("values", "options", "epochs"), STOPS.values(), ids=STOPS.keys())
def test_a_run_that_gets_no_better_ends(tmp_path: Path, values: list[float], options: Any, epochs: int) -> None:
    run = stopping_run(tmp_path, values, **options)
    train(run)
    assert run.epoch == epochs


def test_it_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(stopping_run(tmp_path, [0.5, 0.25, 0.25, 0.25], patience=2))
    assert capsys.readouterr().out == "stopped early: 2 validations without AP better than 0.5\n"
    train(stopping_run(tmp_path, [0.5, 0.75, 0.75], "val_loss", patience=2, mode="min"))
    assert capsys.readouterr().out == "stopped early: 2 validations without val_loss better than 0.5\n"


def test_patience_goes_on_when_resumed_and_an_ended_run_stays_ended(tmp_path: Path) -> None:
    values = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    with pytest.raises(Killed):
        train(stopping_run(tmp_path, values, kill=3, patience=3))
    for step in (4, 4):
        run = stopping_run(tmp_path, values, patience=3)
        resume(run, tmp_path / "checkpoints" / "last.pt")
        train(run)
        assert (run.step, run.stop) == (step, True)


def test_an_unknown_metric_and_no_validation_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(stopping_run(tmp_path, [0.5], "bbox_AP", metric="box_AP"))
    assert str(caught.value) == (
        'EarlyStopping: metric: no metric is called "box_AP". Did you mean "bbox_AP"? There are: bbox_AP, other.'
    )
    with pytest.raises(ConfigError) as caught:
        train(tiny_run(tmp_path, callbacks={"stop": EarlyStopping()}))
    assert str(caught.value) == "EarlyStopping: there is no validation to watch. Write a section [val]."


# ------------------------------------------------------------------------------------------------ switch of transforms


class Count(Transform):
    """Marks what went through it."""

    def forward(self, image: Tensor, target: Mapping[str, Any]) -> tuple[Any, Any]:
        return image, {**target, "dropped": 1}


class Dropped(Callback):
    """Which epochs of a run went through ``Count``."""

    def __init__(self) -> None:
        self.epochs: set[int] = set()

    def reported(self, run: Run, values: Mapping[str, float]) -> None:
        if values.get("dropped"):
            self.epochs.add(run.epoch)


def switched(folder: Path, epoch: int, *, start: int = 0, workers: int = 0, persistent: bool = False) -> set[int]:
    dropped = Dropped()
    callbacks = {"switch": PipelineSwitch(epoch=epoch, transforms=[Count()]), "dropped": dropped}
    run = tiny_run(folder, length=4, epochs=4, report_every=1, callbacks=callbacks, workers=workers)
    run.loader = attrs.evolve(run.loader, persistent=persistent)
    run.epoch, run.step = start, 2 * start
    train(run)
    return dropped.epochs


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, {0, 1, 2, 3}), (2, {2, 3}), (4, set()), (-1, {3}), (-3, {1, 2, 3}), (-9, {0, 1, 2, 3})],
)
def test_transforms_change_from_an_epoch_on(tmp_path: Path, epoch: int, expected: set[int]) -> None:
    assert switched(tmp_path, epoch) == expected


def test_workers_that_stay_take_the_new_transforms_and_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert switched(tmp_path, 2, workers=1, persistent=True) == {2, 3}
    assert capsys.readouterr().out == "epoch 3/4  transforms from here on: Count\n"  # one new loader, not one an epoch


def test_a_run_that_is_resumed_behind_the_switch_has_switched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert switched(tmp_path, -2, start=3) == {3}
    assert capsys.readouterr().out == "epoch 4/4  transforms from here on: Count\n"


# --------------------------------------------------------------------------------------------------------- in a config


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    callbacks = """
[callbacks.ema]
type = "EMA"
momentum = 0.5
[callbacks.stop]
type = "EarlyStopping"
metric = "accuracy"
[callbacks.switch]
type = "PipelineSwitch"
epoch = -1
transforms = [{ type = "RandomVerticalFlip" }, { type = "Sanitize" }]
"""
    (tmp_path / "toy.toml").write_text(CONFIG.replace("PLUGIN", TOY.as_posix()) + callbacks)
    return "toy.toml"


def test_a_config_names_them_and_inference_takes_the_average(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    story.train(config, work_dir="out")
    assert "epoch 3/3  transforms from here on: RandomVerticalFlip, Sanitize" in capsys.readouterr().out
    checkpoint = torch.load("out/checkpoints/last.pt", weights_only=True)
    detector = load_detector(config, "out/checkpoints/last.pt", device="cpu")
    assert torch.equal(detector.head.cls.weight, checkpoint["averaged"]["head.cls.weight"])
    assert not torch.equal(checkpoint["model"]["head.cls.weight"], checkpoint["averaged"]["head.cls.weight"])


MISTAKES = {
    "callbacks.ema.momentum=1.5": "momentum: found 1.5, wanted float",
    "callbacks.ema.momentum=0": "momentum: found 0, wanted float",
    "callbacks.ema.warmup='cosine'": "callbacks.ema.warmup: found \"cosine\", wanted \"none\" | \"exponential\"",
    "callbacks.ema.every=0": "every: found 0, wanted int",
    "callbacks.stop.patience=0": "patience: found 0, wanted int",
    "callbacks.stop.min_delta=-1": "min_delta: found -1, wanted float",
    "callbacks.stop.mode='best'": 'mode: found "best", wanted "max" | "min"',
    "callbacks.stop.metric='acuracy'": 'Did you mean "accuracy"? There are: accuracy.',
    "callbacks.switch.transforms=['x']": "callbacks.switch.transforms: found",
}  # fmt: skip


@pytest.mark.parametrize(("option", "message"), MISTAKES.items())
def test_a_mistake_in_a_config_is_said(config: str, option: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        story.train(config, sets=[option], work_dir="out")
    assert message in str(caught.value)
