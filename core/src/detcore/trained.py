"""From a checkpoint to a detector that scripts use."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detcore.assemble import Parts, Strings, build, load
from detcore.catalog import Catalog
from detcore.classes import agree
from detcore.config import Config, fold_graph, text_graph
from detcore.errors import CheckpointError, ConfigError
from detcore.loading import classes_in, load_state, read, tell_versions, weights_in
from detcore.plugins import discover
from detcore.predictor import Predictor
from detcore.preprocess import Preprocess

NORMALISATION = ("color", "mean", "std")
"""Settings of ``[preprocess]`` without which weights mean nothing; others may be tried."""

OTHERS = "Name those of the checkpoint: classes = [...]. To go on with some of them, or others, train with init_from."
"""What a checkpoint of other classes is for: ``init_from`` takes what belongs to a class by its name."""

log = logging.getLogger("detcore.checkpoint")


def load_detector(
    source: str | Path | None = None,
    checkpoint: str | Path | None = None,
    *,
    device: str | None = None,
    sets: Strings = (),
    swaps: Strings = (),
) -> Predictor:
    """The detector of a config with the weights of a checkpoint, ready to predict.

    Args:
        source: A config's path, or ``distribution::path``; or a checkpoint: it carries the config of its training.
        checkpoint: The weights; without any, they are what the config says.
        device: Instead of the config's.
        sets: Overrides, ``model.head.decoder.score_threshold=0.3``.
        swaps: Replaced components.

    Raises:
        UserError: Config, checkpoint and what is installed do not fit together.
    """
    if source is not None and checkpoint is None and not is_config(source):
        source, checkpoint = None, source
    if checkpoint is None and source is None:
        raise ConfigError("load_detector", "neither a config nor a checkpoint is given")
    if checkpoint is None:
        return predictor(build(*load(str(source), sets, swaps), device))
    content, where = read(Path(checkpoint)), str(checkpoint)
    tell_versions(content, where)
    loaded = load(str(source), sets, swaps) if source else load_carried(content, where, sets, swaps)
    parts = build(*loaded, device, known=classes_in(content), load_weights=False)
    take(parts, content, where)
    return predictor(parts)


def is_config(source: str | Path) -> bool:
    """Whether this is the name of a config rather than of a checkpoint."""
    return str(source).endswith(".toml") or "::" in str(source)


def load_checkpoint(parts: Parts, path: Path) -> None:
    """:func:`take` what a file holds."""
    content = read(path)
    tell_versions(content, str(path))
    take(parts, content, str(path))


def load_carried(
    content: Mapping[str, Any], where: str, sets: Strings = (), swaps: Strings = ()
) -> tuple[Config, Catalog]:
    """The config that a checkpoint carries, and the catalog. It chooses among what is installed, no more.

    Args:
        content: Of the checkpoint.
        where: Its file.
        sets: Overrides.
        swaps: Replaced components.

    Raises:
        CheckpointError: It carries none, or wants modules imported that are not installed.
        UserError: The config cannot be folded.
    """
    meta = content.get("meta")
    text = meta.get("config") if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        raise CheckpointError(where, "carries no config", "Name the config before it.")
    graph = text_graph(text, where, sets=sets, swaps=swaps)
    block: Any = graph.plugins.get("block", ())
    local: Any = graph.plugins.get("local", ())
    if local:
        found = f"its config wants local modules ({', '.join(local)}), which no checkpoint can have imported"
        raise CheckpointError(where, found, "Name the config before it if you trust them.")
    return fold_graph(graph), discover(block=block)


def take(parts: Parts, content: Mapping[str, Any], where: str) -> None:
    """The weights of a checkpoint into the model.

    Raises:
        CheckpointError: It is of other classes, another normalisation or another architecture than the config.
    """
    classes = classes_in(content)
    if classes:
        agree(where, {**_known(parts), "checkpoint": classes}, OTHERS, CheckpointError)
    _agree_on_preprocess(content.get("preprocess"), parts.preprocess, where)
    loaded = load_state(parts.model, weights_in(content, where), where)
    if not loaded.complete:
        raise CheckpointError(where, f"is of another architecture: {loaded}")


def _known(parts: Parts) -> dict[str, Any]:
    """Who knows which classes, beside a checkpoint."""
    own = {"config": parts.classes} if "classes" in parts.plan.root.table else {}
    splits = {"train.dataset": parts.train, "val.dataset": parts.val}
    return {**own, **{key: split.dataset for key, split in splits.items() if split}} or {"config": parts.classes}


def predictor(parts: Parts) -> Predictor:
    """The model with all that its weights mean, as it is evaluated."""
    return Predictor(
        detector=parts.model,
        preprocess=parts.preprocess,
        classes=parts.classes,
        transforms=parts.plan.build("val.transforms") or (),
        batch_size=parts.plan.build("val.batch_size") or 1,
        amp=parts.plan.build("train.amp") or "off",
    )


def _agree_on_preprocess(saved: Any, ours: Preprocess, where: str) -> None:
    """Images are to go through what they went through in training.

    Raises:
        CheckpointError: They are normalised otherwise; other differences are warnings.
    """
    for name, value in ours.settings.items() if isinstance(saved, Mapping) else ():
        if saved.get(name, value) == value:
            continue
        found = f"was trained with preprocess.{name} = {saved[name]}, the config has {value}"
        if name in NORMALISATION:
            raise CheckpointError(where, found, "Set it as it was.")
        log.warning("%s: %s", where, found)
