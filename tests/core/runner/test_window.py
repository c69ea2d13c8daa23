"""The window, as it is filled on an accelerator: nothing is looked at before a report or a checkpoint."""

from __future__ import annotations

import pytest
import torch
from detcore.errors import TrainingError
from detcore.runner.window import Window


def filled(*losses: float) -> Window:
    window = Window()
    for step, value in enumerate(losses):
        window.entries.append((step, ("loss_a", "seen"), torch.tensor([value, 2.0]), [f"i{step}"]))
    return window


def test_a_check_finds_the_first_step_that_was_not_finite() -> None:
    for look in (Window.check, Window.close):
        with pytest.raises(TrainingError, match=r"^step 1: loss_a is inf for images i1\. Lower the learning rate"):
            look(filled(1.0, float("inf"), float("nan")))


def test_a_check_keeps_and_a_report_empties() -> None:
    window = filled(1.0, 2.0)
    window.check()
    window.add(2, {"loss_a": torch.tensor(6.0)}, ["x"])
    report = window.close()
    assert (report["loss"], report["loss_a"], report["seen"]) == (3, 3, 2)
    assert window.close() == {"loss": 0, "step_s": 0, "data_s": 0}


def test_what_is_seen_late_says_how_it_is_seen_at_once() -> None:
    window = Window(every_step=False)
    window.add(3, {"loss": torch.tensor(float("nan"))}, [7])
    with pytest.raises(TrainingError) as caught:
        window.close()
    assert str(caught.value) == (
        "step 3: loss is nan for images 7. Lower the learning rate, clip gradients, or look at these images; "
        "checkpoints are from before. With train.watch_every_step = true the step is saved, and it is told where that began."
    )
