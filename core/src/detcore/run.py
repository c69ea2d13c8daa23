"""A run, as a story in five calls: load, discover, build, train (or evaluate), report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from detcore import distributed
from detcore.assemble import Strings, build, load, prepare
from detcore.checks import check, schema
from detcore.distributed import broadcast, processes
from detcore.errors import ConfigError
from detcore.initial import init_from
from detcore.prediction import write_json
from detcore.runner import checkpoint as checkpoints
from detcore.runner.folder import last_of, run_folder
from detcore.runner.train import train as run_to_the_end
from detcore.scoring import draw_samples, score_detector, score_file
from detcore.scripts import split_of
from detcore.trained import load_checkpoint

__all__ = ["check", "evaluate", "report", "schema", "train"]


@processes()
def train(
    source: str,
    *,
    sets: Strings = (),
    swaps: Strings = (),
    resume: str | None = None,
    work_dir: str | None = None,
    device: str | None = None,
) -> Mapping[str, float]:
    """Train what a config says; returns the last validation's metrics.

    Args:
        source: A config's path, or ``distribution::path``.
        sets: Overrides, ``optimizer.lr=0.02``.
        swaps: Replaced components, ``model.backbone=TinyNet``.
        resume: A checkpoint to go on from; ``auto`` is the newest of this config.
        work_dir: The run's folder; by default a new one, ``<work_dir of the config>/<config's name>/<time>``.
        device: Instead of the config's.

    Raises:
        UserError: Anything that the user can mend.
    """
    config, catalog = load(source, sets, swaps)
    parts = build(config, catalog, device, wanted=("model", "train", "optimizer"))
    run = prepare(parts, broadcast(run_folder(Path(parts.plan.build("work_dir")), source, work_dir, resume)))
    if resume:
        checkpoints.resume(run, last_of(run.folder) if resume == "auto" else Path(resume))
    else:
        for line in init_from(parts, config, catalog):
            print(line)
    metrics = run_to_the_end(run)
    return report(metrics, run.folder)


@processes()
def evaluate(
    source: str,
    checkpoint: str | None = None,
    *,
    predictions: str | None = None,
    output: str | None = None,
    draw: str | None = None,
    score: float = 0.3,
    sets: Strings = (),
    swaps: Strings = (),
    device: str | None = None,
) -> Mapping[str, float]:
    """Score a checkpoint, or results that are in a file, on the validation data of a config; see :func:`train`.

    Args:
        source: A config.
        checkpoint: Whose detections are scored.
        predictions: COCO's results JSON, instead; no model is built.
        output: A file for the results. Where no image of the data has an object, they are written and not scored.
        draw: A folder for pictures of all images, as they are annotated beside what was found.
        score: What scores less is not drawn.
        sets: As in :func:`train`.
        swaps: As in :func:`train`.
        device: As in :func:`train`.
    """
    if (checkpoint is None) == (predictions is None):
        raise ConfigError("eval", "wants a checkpoint, or results to score with --predictions: one of the two")
    config, catalog = load(source, sets, swaps)
    if predictions is not None:
        found = score_file(split_of(config, catalog, "val"), Path(predictions))
    else:
        parts = build(config, catalog, device, wanted=("model", "val"), load_weights=False)
        load_checkpoint(parts, Path(str(checkpoint)))
        found = score_detector(parts, written=output is not None, drawn=draw is not None)
    first = distributed.rank() == 0
    if output and first:
        write_json(Path(output), [*found.results])
    if draw and first:
        draw_samples(found, Path(draw), score)
    return report(found.metrics)


def report(metrics: Mapping[str, float], folder: Path | None = None) -> Mapping[str, float]:
    """Say how it ended."""
    width = max(12, *map(len, metrics)) if metrics else 0
    for name, value in metrics.items():
        print(f"{name:>{width}} {value:.4f}")
    if folder is not None:
        print(f"in {folder}")
    return metrics
