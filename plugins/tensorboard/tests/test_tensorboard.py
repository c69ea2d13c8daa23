"""What TensorBoard reads back."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detcore import run as runs
from detcore.testing import check_callback
from detcore_tensorboard.tensorboard import TensorBoardLog
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TOY = Path(__file__).parents[3] / "tests" / "core" / "toy_plugin.py"
CONFIG = f"""
classes = ["red", "green"]
[plugins]
local = ["{TOY.as_posix()}"]
[model]
type = "OneStage"
backbone = {{ type = "ToyBackbone" }}
head = {{ type = "ToyHead" }}
[train]
dataset = {{ type = "ToyDataset" }}
epochs = 2
batch_size = 4
report_every = 1
[val]
dataset = {{ type = "ToyDataset", length = 4 }}
evaluator = {{ type = "ToyEvaluator" }}
[optimizer]
type = "SGD"
lr = 0.1
[callbacks.tensorboard]
type = "TensorBoardLog"
"""


def a_run(folder: Path, step: int = 0) -> Any:
    return SimpleNamespace(folder=folder, step=step, meta={"config": "seed = 3\n"}, best=0.5, best_metric=None)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard")).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_numbers_config_and_picture_are_read_back(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (200, 0, 0)).save(tmp_path / "samples.png")
    log, run = TensorBoardLog(), a_run(tmp_path)
    log.run_started(run)
    for run.step, loss in ((2, 1.5), (4, 0.75)):
        log.reported(run, {"lr": 0.5, "loss": loss})
    log.evaluated(run, {"AP": 0.25, "AP75": math.nan})
    log.run_ended(run)
    assert scalars(tmp_path, "train/loss") == [(2, 1.5), (4, 0.75)]
    assert scalars(tmp_path, "train/lr") == [(2, 0.5), (4, 0.5)]
    assert scalars(tmp_path, "val/AP") == [(4, 0.25)]
    assert scalars(tmp_path, "best/AP") == [(4, 0.5)]
    assert math.isnan(scalars(tmp_path, "val/AP75")[0][1])
    events = read(tmp_path)
    (text,) = events.Tensors("config/text_summary")
    assert text.tensor_proto.string_val[0] == b"```toml\nseed = 3\n\n```"
    (image,) = events.Images("samples")
    assert (image.step, image.height, image.width) == (4, 6, 8)
    assert Image.open(io.BytesIO(image.encoded_image_string)).getpixel((0, 0)) == (200, 0, 0)


def test_a_resumed_run_hides_what_came_after_its_step(tmp_path: Path) -> None:
    first = TensorBoardLog()
    first.run_started(a_run(tmp_path))
    for step in (1, 2, 3, 4):
        first.reported(a_run(tmp_path, step), {"loss": 1.0})
    first.run_failed(a_run(tmp_path, 4), KeyboardInterrupt())
    second = TensorBoardLog()
    second.run_started(a_run(tmp_path, 2))
    second.reported(a_run(tmp_path, 3), {"loss": 7.0})
    second.run_ended(a_run(tmp_path, 3))
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 1.0), (3, 7.0)]


def test_a_disk_that_fails_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, run = TensorBoardLog(), a_run(tmp_path)
    log.run_started(run)
    log.writer.close()
    log.writer.add_scalar = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    log.reported(run, {"loss": 1.0})
    log.reported(run, {"loss": 1.0})
    assert capsys.readouterr().err == (
        "warning: TensorBoardLog failed and logs no more: OSError: [Errno 28] No space left on device\n"
    )


def test_a_config_that_names_it_trains_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.toml").write_text(CONFIG)
    metrics = runs.train("toy.toml", work_dir="out")
    assert {step for step, _ in scalars(Path("out"), "train/loss")} == {1, 2, 3, 4}
    assert scalars(Path("out"), "val/accuracy")[-1] == (4, pytest.approx(metrics["accuracy"]))
    assert b"ToyBackbone" in read(Path("out")).Tensors("config/text_summary")[0].tensor_proto.string_val[0]


def test_tensorboard_is_imported_when_a_run_starts() -> None:
    code = "import sys, detcore_tensorboard.tensorboard; print('tensorboard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_it_is_a_callback() -> None:
    check_callback(TensorBoardLog)
