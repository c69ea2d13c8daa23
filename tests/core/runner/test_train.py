"""The loop: what it does to weights, in which order it calls, and how it stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from core.runner.tiny import TinyDataset, TinyDetector, tiny_run
from detcore.errors import ComponentError, ConfigError, DataError, TrainingError
from detcore.interfaces import Callback
from detcore.loading import read
from detcore.runner.evaluate import Evaluation
from detcore.runner.logs import ConsoleLog, JsonlLog
from detcore.runner.state import Run, in_order
from detcore.runner.train import train
from detcore.schedules import LinearWarmup, MultiStep
from detcore.structures import Batch, Losses
from torch import Tensor, nn


class Recorder(Callback):
    """Writes down every call with where the run is."""

    def __init__(self, calls: list[Any], name: str = "") -> None:
        self.calls = calls
        self.name = name

    def __getattribute__(self, event: str) -> Any:
        if event not in (
            "run_started",
            "epoch_started",
            "step_done",
            "reported",
            "evaluated",
            "checkpoint_saved",
            "run_ended",
        ):
            return super().__getattribute__(event)
        return lambda run, *values: self.calls.append((event, run.epoch, run.position, run.step))


class Explicit(TinyDetector):
    """A loss whose values are told, step by step; its gradient is 1 for each weight of ``line``."""

    def __init__(self, values: list[float] | None = None) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.zeros(2))
        self.values = iter(values or [0.0] * 99)
        self.progress: list[float] = []
        self.told: dict[tuple[int | str, ...], float] = {}

    def value(self, batch: Batch) -> float:
        """The next one, or the one it had, where a batch comes again."""
        ids = (batch.progress, *batch.ids)
        if ids not in self.told:
            self.told[ids] = next(self.values)
        return self.told[ids]

    def losses(self, batch: Batch) -> Losses:
        self.progress.append(batch.progress)
        return {"loss_a": self.line.sum(), "loss_b": torch.tensor(self.value(batch)), "seen": torch.tensor(7.0)}


def test_events_come_in_order(tmp_path: Path) -> None:
    calls: list[Any] = []
    run = tiny_run(
        tmp_path,
        length=4,
        callbacks={"r": Recorder(calls)},
        report_every=3,
        evaluate=lambda *_: Evaluation({"AP": 0.5}),
    )
    assert train(run) == {"AP": 0.5}
    assert calls == [
        ("run_started", 0, 0, 0),
        ("epoch_started", 0, 0, 0),
        ("step_done", 0, 1, 1),
        ("step_done", 0, 2, 2),
        ("reported", 0, 2, 2),
        ("checkpoint_saved", 0, 2, 2),
        ("evaluated", 0, 2, 2),
        ("checkpoint_saved", 1, 0, 2),
        ("epoch_started", 1, 0, 2),
        ("step_done", 1, 1, 3),
        ("reported", 1, 1, 3),
        ("step_done", 1, 2, 4),
        ("reported", 1, 2, 4),
        ("checkpoint_saved", 1, 2, 4),
        ("evaluated", 1, 2, 4),
        ("checkpoint_saved", 2, 0, 4),
        ("run_ended", 2, 0, 4),
    ]


def test_callbacks_are_called_by_stage_then_as_given() -> None:
    def of(stage: str) -> Callback:
        return type("Of", (Callback,), {"stage": stage})()

    given = {"d": of("save"), "a": of("report"), "c": of("update"), "b": of("report"), "e": of("evaluate")}
    assert list(in_order(given)) == ["c", "e", "a", "b", "d"]
    with pytest.raises(ComponentError) as caught:
        in_order({"x": of("later")})
    assert str(caught.value) == "callback x: unknown stage 'later'. One of update, evaluate, report, save."


def test_a_callback_that_fails_is_named(tmp_path: Path) -> None:
    class Fails(Callback):
        def epoch_started(self, run: Any) -> None:
            raise ZeroDivisionError("no")

    with pytest.raises(ComponentError) as caught:
        train(tiny_run(tmp_path, callbacks={"ema": Fails()}))
    assert str(caught.value) == "callback ema: epoch_started raised ZeroDivisionError: no"


def test_a_callbacks_own_user_error_is_passed_on(tmp_path: Path) -> None:
    class Fails(Callback):
        def epoch_started(self, run: Any) -> None:
            raise DataError("here", "that")

    with pytest.raises(DataError, match=r"^here: that$"):
        train(tiny_run(tmp_path, callbacks={"ema": Fails()}))


def explicit(folder: Path, values: list[float] | None = None, **more: Any) -> Run:
    detector = Explicit(values)
    optimizer = torch.optim.SGD([detector.line], lr=more.pop("lr", 1.0))
    return tiny_run(folder, detector=detector, optimizer=optimizer, **more)


def test_weights_move_by_gradient_times_scheduled_rate(tmp_path: Path) -> None:
    run = explicit(
        tmp_path, schedules=[LinearWarmup(steps=2, start_factor=0.5), MultiStep(epochs=[1], gamma=0.1)], lr=2.0
    )
    train(run)
    assert run.detector.line.tolist() == pytest.approx([-2 * (0.5 + 0.75 + 4 * 1 + 6 * 0.1)] * 2)
    assert run.detector.progress == pytest.approx([step / 12 for step in range(12)])


def test_gradients_are_clipped_to_a_norm(tmp_path: Path) -> None:
    run = explicit(tmp_path, clip_grad=0.5, report_every=12)
    values: dict[str, float] = {}
    run.callbacks = {"keep": type("Keep", (Callback,), {"reported": lambda self, run, new: values.update(new)})()}
    train(run)
    assert run.detector.line.tolist() == pytest.approx([-12 * 0.5 / 2**0.5] * 2, rel=1e-4)
    assert values["grad_norm"] == pytest.approx(2**0.5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path: Path, bad: float) -> None:
    run = explicit(tmp_path, [0.0, 0.0, bad])
    with pytest.raises(TrainingError) as caught:
        train(run)
    ids = [id for batch in list(run.loader.epoch(0))[2:3] for id in batch.ids]
    assert str(caught.value) == (
        f"step 2: loss_b is {bad} for images {ids[0]}, {ids[1]}; every module's output is finite, but not loss_b {bad}. "
        "Lower the learning rate, clip gradients, or look at these images; checkpoints are from before. "
        f"The batch is saved: core-run replay {tmp_path / 'nonfinite' / 'step-2.pt'}"
    )
    assert run.detector.line.tolist() == [-2, -2]
    assert not (tmp_path / "checkpoints").exists()


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path: Path) -> None:
    class Root(Explicit):
        def losses(self, batch: Batch) -> Losses:
            return {"loss": (self.line * 0).sum().sqrt()}

    detector = Root()
    run = tiny_run(tmp_path, detector=detector, optimizer=torch.optim.SGD([detector.line], lr=1.0), clip_grad=1.0)
    with pytest.raises(TrainingError, match=r"^step 0: grad_norm is nan for images "):
        train(run)
    assert detector.line.tolist() == [0, 0]


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Root(Explicit):
        def losses(self, batch: Batch) -> Losses:
            return {"loss": (self.line * 0).sum().sqrt()}

    detector = Root()
    optimizer = torch.optim.SGD([detector.line], lr=1.0)
    with pytest.raises(TrainingError) as caught:
        train(tiny_run(tmp_path, detector=detector, optimizer=optimizer, save_every=1))
    assert str(caught.value) == "step 1: weights are not finite: line. No checkpoint was written."
    assert not (tmp_path / "checkpoints").exists()


def test_validation_is_due_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    seen: list[int] = []
    run = tiny_run(tmp_path, length=2, epochs=5, evaluate_every=2)
    run.evaluate = lambda detector, tick: seen.append(run.epoch) or Evaluation({"AP": 0.0})  # type: ignore[func-returns-value]
    train(run)
    assert seen == [1, 3, 4]


def test_an_averaged_detector_is_scored_in_place_of_the_trained(tmp_path: Path) -> None:
    scored: list[nn.Module] = []
    run = tiny_run(tmp_path, epochs=1, evaluate=lambda detector, tick: scored.append(detector) or Evaluation({}))  # type: ignore[func-returns-value]
    run.averaged = nn.Identity()
    train(run)
    assert scored == [run.averaged]


def test_a_callback_can_end_the_run_after_its_step(tmp_path: Path) -> None:
    class Stop(Callback):
        stage: ClassVar[str] = "update"

        def step_done(self, run: Any, losses: Any) -> None:
            run.stop = True

    run = tiny_run(
        tmp_path, epochs=3, evaluate_every=3, evaluate=lambda *_: Evaluation({"AP": 1.0}), callbacks={"s": Stop()}
    )
    assert train(run) == {"AP": 1.0}
    assert (run.epoch, run.position, run.step) == (0, 1, 1)
    assert read(tmp_path / "checkpoints" / "last.pt")["at"]["stop"]


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_trains(tmp_path: Path, amp: Any) -> None:
    run = tiny_run(tmp_path, epochs=1, amp=amp, clip_grad=10.0)
    before = run.detector.conv.weight.clone()
    dtypes: set[torch.dtype] = set()
    run.detector.conv.register_forward_hook(lambda *hook: dtypes.add(hook[2].dtype))
    train(run)
    assert dtypes == {torch.bfloat16 if amp == "bf16" else torch.float16}
    assert run.detector.conv.weight.isfinite().all()
    assert not torch.equal(before, run.detector.conv.weight)


def test_two_runs_with_one_seed_are_equal_whatever_the_workers(tmp_path: Path) -> None:
    weights: list[Tensor] = []
    for workers in (0, 2, 4):
        run = tiny_run(tmp_path / str(workers), workers=workers)
        torch.rand(workers)
        train(run)
        weights.append(nn.utils.parameters_to_vector(run.detector.parameters()))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    other = tiny_run(tmp_path / "other", seed=4)
    train(other)
    assert not torch.equal(weights[0], nn.utils.parameters_to_vector(other.detector.parameters()))


def test_data_without_a_batch_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(tiny_run(tmp_path, dataset=TinyDataset(0)))
    assert str(caught.value) == (
        "data loader: has no batch. The dataset is empty, or smaller than one batch while drop_last is set."
    )


def test_memory_that_ran_out_is_one_line(tmp_path: Path) -> None:
    class Large(TinyDetector):
        def losses(self, batch: Batch) -> Losses:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError) as caught:
        train(tiny_run(tmp_path, detector=Large()))
    assert str(caught.value) == (
        'step 0: the memory of cpu ran out. Use smaller batches, smaller images or amp = "bf16".'
    )


def test_logs_tell_the_means_of_their_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = explicit(
        tmp_path,
        [1.0, 2.0, 3.0, 4.0],
        epochs=1,
        length=8,
        report_every=2,
        evaluate=lambda *_: Evaluation({"AP": float("nan")}),
    )
    run.callbacks = {"console": ConsoleLog(), "file": JsonlLog()}
    train(run)
    started, first, second, validation = [
        json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()
    ]
    assert started == {"kind": "started", "epoch": 1, "step": 0, "steps": 4, "steps_per_epoch": 4}
    assert (first["kind"], first["epoch"], first["step"], first["lr"]) == ("train", 1, 2, 1.0)
    assert (first["loss"], first["loss_a"], first["loss_b"], first["seen"]) == (0.5, -1, 1.5, 7)
    assert (second["step"], second["loss_a"], second["loss_b"]) == (4, -5, 3.5)
    assert 0 <= second["data_s"] <= second["step_s"] < 5
    assert validation == {"kind": "validation", "epoch": 1, "step": 4, "AP": None}
    lines = capsys.readouterr().out.splitlines()
    first, second = [line for line in lines if "  loss " in line]
    assert first.startswith("epoch 1/1  step 2/4  loss 0.5  loss_a -1  loss_b 1.5  seen 7  lr 1  ")
    assert second.startswith("epoch 1/1  step 4/4  loss ")
    assert any(line.startswith(f"epoch 1/1  step 4/4  saved {tmp_path}") for line in lines)
    assert "epoch 1/1  step 4/4  validation  AP nan" in lines


def test_dropped_objects_come_up_in_the_report(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, epochs=1, report_every=6, callbacks={"file": JsonlLog()})
    dropping = lambda image, target: (image, {**target, "dropped": 2})  # noqa: E731
    object.__setattr__(run.loader, "transforms", [dropping])
    train(run)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1])["dropped"] == 24
