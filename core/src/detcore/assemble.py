"""From a config to the objects of a run: load and discover, check and build, prepare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from detcore.build import Plan, plan
from detcore.catalog import Catalog
from detcore.config import Config, dump, fold_graph, read_graph
from detcore.data import Loader
from detcore.errors import CheckpointError, ConfigError, DataError
from detcore.interfaces import Dataset, Detector, Flow
from detcore.loading import load_state, read, weights_in
from detcore.plugins import discover, resolve_dist
from detcore.preprocess import Preprocess
from detcore.recipe import Recipe, TrainSettings, ValSettings
from detcore.runner.evaluate import evaluate as score
from detcore.runner.logs import ConsoleLog, JsonlLog
from detcore.runner.optim import build_optimizer
from detcore.runner.state import Run

Strings = Sequence[str]


def load(source: str, sets: Strings = (), swaps: Strings = ()) -> tuple[Config, Catalog]:
    """Files and options -> the folded table; entry points and local modules -> the catalog."""
    graph = read_graph(source, sets=sets, swaps=swaps, resolve_dist=resolve_dist)
    block, local = graph.plugins.get("block", ()), graph.plugins.get("local", ())
    catalog = discover(block=block, local=local)  # type: ignore[arg-type]
    return fold_graph(graph), catalog


@attrs.frozen(kw_only=True, eq=False)
class Parts:
    """What a config became. Attributes are as in :class:`detcore.recipe.Recipe`; ``meta`` is what checkpoints carry."""

    model: Detector
    preprocess: Preprocess
    classes: Sequence[str]
    train: TrainSettings | None
    val: ValSettings | None
    plan: Plan
    device: torch.device
    meta: Mapping[str, Any]


def build(config: Config, catalog: Catalog, device: str | None = None, *, wanted: Strings = ("model",)) -> Parts:
    """Check the whole config, then build data first (it may know the classes), then the model.

    Args:
        config: The folded config.
        catalog: What is installed.
        device: Instead of the config's.
        wanted: Top-level keys that must be there.
    """
    checked = plan(config, catalog, Recipe)
    missing = [key for key in wanted if key not in checked]
    if missing:
        raise ConfigError(config.table.where(), f"says nothing of {', '.join(missing)}", "This command needs it.")
    names = checked.build("classes")
    flow = class_flow(config, names)
    splits = {key: checked.build(key, flow) if key in wanted or key == "val" else None for key in ("train", "val")}
    classes = _agreed_classes(config, {key: split.dataset for key, split in splits.items() if split}, names)
    torch.manual_seed(checked.build("seed"))
    model = checked.build("model", class_flow(config, classes))
    for line in checked.reports:
        print(line)
    on = _device(device or checked.build("device"), "option --device" if device else config.table.where("device"))
    return Parts(
        model=model.to(on, memory_format=torch.channels_last if checked.build("channels_last") else None),
        preprocess=(checked.build("preprocess") or Preprocess()).to(on),
        classes=classes,
        plan=checked,
        device=on,
        meta={"config": dump(config.table), "classes": list(classes), "plugins": _versions(catalog)},
        **splits,
    )


def prepare(parts: Parts, folder: Path) -> Run:
    """The training run of these parts, at its beginning."""
    settings, checked = parts.train, parts.plan
    assert settings is not None, "built without wanting train"
    seed: int = checked.build("seed")
    loader = Loader(
        settings.dataset,
        settings.transforms,
        batch_size=settings.batch_size,
        workers=settings.workers,
        shuffle=True,
        seed=seed,
        drop_last=settings.drop_last,
        pin=parts.device.type == "cuda",
    )
    return Run(
        detector=parts.model,
        preprocess=parts.preprocess,
        optimizer=build_optimizer(parts.model, checked.build("optimizer")),
        loader=loader,
        epochs=settings.epochs,
        folder=folder,
        schedules=checked.build("schedule"),
        evaluate=evaluation(parts) if parts.val else None,
        callbacks={"console": ConsoleLog(), "jsonl": JsonlLog(), **(checked.build("callbacks") or {})},
        amp=settings.amp,
        clip_grad=settings.clip_grad,
        evaluate_every=parts.val.every if parts.val else 1,
        save_every=settings.save_every,
        report_every=settings.report_every,
        seed=seed,
        meta=parts.meta,
    )


def load_checkpoint(parts: Parts, path: Path) -> None:
    """The weights of a checkpoint into the model; its classes must be the config's."""
    content = read(path)
    meta = content.get("meta")
    classes = meta.get("classes") if isinstance(meta, Mapping) else None  # a file of bare weights names none
    if classes and list(classes) != list(parts.classes):
        found = f"was trained on the classes {', '.join(classes)}, the config has {', '.join(parts.classes)}"
        raise CheckpointError(str(path), found)
    loaded = load_state(parts.model, weights_in(content, str(path)), str(path))
    if not loaded.complete:
        raise CheckpointError(str(path), f"is of another architecture: {loaded}")


def evaluation(parts: Parts) -> Any:
    """A function that scores a detector on the validation data."""
    settings = parts.val
    assert settings is not None, "built without wanting val"
    loader = Loader(settings.dataset, settings.transforms, batch_size=settings.batch_size, workers=settings.workers)
    amp = parts.train.amp if parts.train else "off"

    def evaluate(detector: torch.nn.Module) -> dict[str, float]:
        evaluator = settings.evaluator(settings.dataset)
        return score(detector=detector, preprocess=parts.preprocess, loader=loader, evaluator=evaluator, amp=amp)

    return evaluate


def class_flow(config: Config, classes: Sequence[str] | None) -> Flow:
    """What flows into data and model where the config names the classes; where the data does, only their number.

    None is "not known yet": nothing flows.
    """
    if classes is None:
        return Flow()
    if "classes" not in config.table:
        return Flow().having("the data's list of classes", num_classes=len(classes))
    source = f"classes ({config.table.where('classes')})"
    return Flow().having(source, classes=tuple(classes), num_classes=len(classes))


def _agreed_classes(config: Config, datasets: Mapping[str, Dataset], names: Sequence[str] | None) -> Sequence[str]:
    """The classes that config and data agree on.

    Raises:
        ConfigError: They differ, or nobody names any.
        DataError: A dataset has no image.
    """
    for key, dataset in datasets.items():
        if not len(dataset):
            section: Any = config.table[key]
            raise DataError(section.where("dataset"), "has no image")
    known = {f"{key}.dataset": tuple(dataset.classes) for key, dataset in datasets.items()}
    if names is not None:
        known = {"classes": tuple(names), **known}
    if not known:
        raise ConfigError(config.table.where(), "nothing says which classes there are", 'Write classes = ["...", ...].')
    (first, classes), *others = known.items()
    for key, each in others:
        if each != classes:
            lacking = [name for name in classes if name not in each] or [name for name in each if name not in classes]
            what = f"only one of them has {', '.join(lacking)}" if lacking else "their order differs"
            raise ConfigError(config.table.where(), f"{first} and {key} have different classes: {what}")
    return classes


def _device(name: str, where: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(where, f'"{name}" cannot be used: {str(error).splitlines()[0]}') from error


def _versions(catalog: Catalog) -> dict[str, str]:
    return {entry.distribution: entry.version for entry in catalog.entries}
