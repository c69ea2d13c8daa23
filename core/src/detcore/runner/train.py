"""Training: batches -> losses -> backward -> step -> events -> checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detcore import distributed
from detcore.data import RawBatch
from detcore.errors import ConfigError
from detcore.files import write_text
from detcore.runner.checkpoint import keep_best, keep_epoch, restore_rng, save, seed_everything
from detcore.runner.nonfinite import diagnosed
from detcore.runner.optim import autocast, backward, clip, update, within_memory
from detcore.runner.signals import end_if_told, listening
from detcore.runner.state import Run, failure_told, notify
from detcore.runner.window import mean_of
from detcore.schedules import learning_rate_factor
from detcore.structures import total_loss


def train(run: Run) -> Mapping[str, float]:
    """Train to the end of the run, from wherever it is; returns the metrics of the last validation.

    Raises:
        UserError: Of data, a callback, a loss that is not finite, memory that ran out; or the run was told to end.
    """
    with failure_told(run), listening(run, save_last):
        begin(run)
        over = False
        while not over:
            if not run.over:
                epoch(run)
            end_epoch(run)
            over = run.over
        notify(run, "run_ended")
    return run.metrics


def begin(run: Run) -> None:
    """Call the callbacks, then set all random generators: to the seed, or to where a checkpoint left them."""
    if not len(run.loader):
        fix = "The dataset is empty, or smaller than one batch while drop_last is set."
        raise ConfigError("data loader", "has no batch", fix)
    for name, text in run.files.items() if distributed.rank() == 0 else ():
        write_text(run.folder / name, text)
    run.detector.train()
    notify(run, "run_started")
    if run.rng is None:
        seed_everything(run.seed + distributed.rank())  # what drops out is another's on each
    else:
        restore_rng(run.rng, run.device)
    if run.due(run.evaluate_steps):  # it was killed while it was scored
        validate(run)


def epoch(run: Run) -> None:
    """The steps that are left of this epoch, or of the run."""
    notify(run, "epoch_started")
    for batches in run.window.timed(run.batches()):
        step(run, batches)
        after_step(run)
        if run.over:
            break


def step(run: Run, batches: Sequence[RawBatch]) -> None:
    """One update of the weights, from the gradients of some batches."""
    progress = run.progress
    run.optimizer.zero_grad(set_to_none=True)
    with within_memory(f"step {run.step}", run.device), diagnosed(run, batches):
        for number, raw in enumerate(batches, 1):
            batch = run.preprocess(raw, progress=progress.step / progress.steps)
            with run.shared(number == len(batches)):
                with autocast(run.device, run.amp):
                    losses = run.trained(batch, mode="losses")
                run.window.add(run.step, losses, batch.ids)
                backward(run.scaler, total_loss(losses) / len(batches))
        ids = [each for raw in batches for each in raw.ids]
        run.window.add(run.step, clip(run.optimizer, run.scaler, run.clip_grad), ids)
    update(run.optimizer, run.scaler, learning_rate_factor(run.schedules, progress))
    run.step, run.position = run.step + 1, run.position + len(batches)
    notify(run, "step_done", losses)


def after_step(run: Run) -> None:
    """Reports, checkpoints and validations that are due by steps; the end, where a signal told so."""
    if run.due(run.report_every):
        report(run)
    if run.due(run.save_every):
        save_last(run)
    if run.due(run.evaluate_steps):
        validate(run)
    end_if_told(run, save_last)


def report(run: Run) -> None:
    """Tell callbacks the means since the last report; the first rank hears what was wrong with the data of others."""
    shares = distributed.gather((run.window.close(), run.window.flaws))
    for _, flaws in shares:
        run.window.flaws |= flaws
    if shares:
        means = mean_of([means for means, _ in shares])
        notify(run, "reported", {"lr": run.optimizer.param_groups[0]["lr"], **means})


def end_epoch(run: Run) -> None:
    """Report, validate where that is due, then begin a new epoch where this one is through."""
    if run.window.entries:
        report(run)
    through = run.position >= len(run.loader)
    if run.over or (run.evaluate_steps is None and (run.epoch + 1) % run.evaluate_every == 0):
        validate(run)
    if through:
        run.epoch, run.position = run.epoch + 1, 0
    save_last(run)
    if through:
        keep_epoch(run)


def validate(run: Run) -> None:
    """Score the detector, once per step; what was trained is saved before."""
    if run.evaluate is None or run.validated == run.step:
        return
    save_last(run)

    def tick(done: int, of: int) -> None:
        notify(run, "evaluation_progress", done, of)
        end_if_told(run)

    run.evaluation = run.evaluate(run.averaged or run.detector, tick)
    run.metrics, run.validated = run.evaluation.metrics, run.step
    keep_best(run)
    notify(run, "evaluated", run.metrics)
    run.evaluation = None  # its results may be large


def save_last(run: Run) -> None:
    """Write ``checkpoints/last.pt``, never from a state that is not finite."""
    run.window.check()
    path = run.folder / "checkpoints" / "last.pt"
    save(run, path)
    notify(run, "checkpoint_saved", path)
