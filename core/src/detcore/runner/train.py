"""Training: batch -> losses -> backward -> step -> events -> checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from detcore.data import RawBatch
from detcore.errors import ConfigError
from detcore.runner.checkpoint import restore_rng, save, seed_everything
from detcore.runner.optim import autocast, backward, update, within_memory
from detcore.runner.state import Run, notify
from detcore.schedules import learning_rate_factor
from detcore.structures import total_loss


def train(run: Run) -> Mapping[str, float]:
    """Train to the end of the run, from wherever it is; returns the metrics of the last validation.

    Raises:
        UserError: Of data, a callback, a loss that is not finite, memory that ran out.
    """
    begin(run)
    while run.epoch < run.epochs and not run.stop:
        notify(run, "epoch_started")
        for raw in run.window.timed(run.loader.epoch(run.epoch, start=run.position)):
            step(run, raw)
            if run.step % run.report_every == 0:
                report(run)
            if run.save_every and run.step % run.save_every == 0:
                save_last(run)
        validate(run)
        run.epoch, run.position = run.epoch + 1, 0
        save_last(run)
    notify(run, "run_ended")
    return run.metrics


def begin(run: Run) -> None:
    """Call the callbacks, then set all random generators: to the seed, or to where a checkpoint left them."""
    if not len(run.loader):
        fix = "The dataset is empty, or smaller than one batch while drop_last is set."
        raise ConfigError("data loader", "has no batch", fix)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.detector.train()
    notify(run, "run_started")
    if run.rng is None:
        seed_everything(run.seed)
    else:
        restore_rng(run.rng, run.device)


def step(run: Run, raw: RawBatch) -> None:
    """One batch, one update of the weights."""
    progress = run.progress
    with within_memory(f"step {run.step}", run.device):
        batch = run.preprocess(raw, progress=progress.step / progress.steps)
        with autocast(run.device, run.amp):
            losses = run.detector(batch, mode="losses")
        run.window.add(run.step, losses, batch.ids)
        gradients = backward(run.optimizer, run.scaler, total_loss(losses), run.clip_grad)
        run.window.add(run.step, gradients, batch.ids)
        update(run.optimizer, run.scaler, learning_rate_factor(run.schedules, progress))
    run.step, run.position = run.step + 1, run.position + 1
    notify(run, "step_done", losses)


def report(run: Run) -> None:
    """Tell callbacks the means since the last report."""
    notify(run, "reported", {"lr": run.optimizer.param_groups[0]["lr"], **run.window.close()})


def validate(run: Run) -> None:
    """Score the detector where that is due; what was trained is saved before."""
    done = run.epoch + 1
    if run.evaluate is None or (done % run.evaluate_every and done < run.epochs and not run.stop):
        return
    save_last(run)
    run.metrics = run.evaluate(run.detector if run.averaged is None else run.averaged)
    notify(run, "evaluated", run.metrics)


def save_last(run: Run) -> None:
    """Write ``checkpoints/last.pt``, never from a state that is not finite."""
    run.window.check()
    path = run.folder / "checkpoints" / "last.pt"
    save(run, path)
    notify(run, "checkpoint_saved", path)
