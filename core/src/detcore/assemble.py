"""From a config to the objects of a run: load and discover, check and build, prepare."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from detcore import distributed
from detcore.build import Plan, plan
from detcore.callbacks.pictures import Pictures
from detcore.catalog import Catalog
from detcore.classes import agree, all_used, cells
from detcore.config import Config, dump, fold_graph, read_graph, with_origins
from detcore.data import Loader
from detcore.errors import ConfigError, DataError
from detcore.interfaces import Dataset, Detector, Flow
from detcore.plugins import discover, resolve_dist
from detcore.preprocess import Preprocess
from detcore.recipe import Recipe, TrainSettings, ValSettings
from detcore.runner.evaluate import Evaluation, Tick, agree_on_evaluator
from detcore.runner.evaluate import evaluate as score
from detcore.runner.folder import RunFolder, environment
from detcore.runner.logs import ConsoleLog, JsonlLog
from detcore.runner.parameters import Rules, build_optimizer, freeze
from detcore.runner.state import Run
from detcore.runner.window import Window

Strings = Sequence[str]


def load(source: str, sets: Strings = (), swaps: Strings = ()) -> tuple[Config, Catalog]:
    """Files and options -> the folded table; entry points and local modules -> the catalog."""
    graph = read_graph(source, sets=sets, swaps=swaps, resolve_dist=resolve_dist)
    block, local = graph.plugins.get("block", ()), graph.plugins.get("local", ())
    catalog = discover(block=block, local=local)  # type: ignore[arg-type]
    return fold_graph(graph), catalog


@attrs.frozen(kw_only=True, eq=False)
class Parts:
    """What a config became. Attributes are as in :class:`detcore.recipe.Recipe`.

    ``meta`` is what checkpoints carry beside.
    """

    model: Detector
    preprocess: Preprocess
    classes: Sequence[str]
    train: TrainSettings | None
    val: ValSettings | None
    plan: Plan
    device: torch.device
    meta: Mapping[str, Any]


def build(
    config: Config,
    catalog: Catalog,
    device: str | None = None,
    *,
    wanted: Strings = ("model",),
    known: Strings | None = None,
    load_weights: bool = True,
) -> Parts:
    """Check the whole config, then build data first (it may know the classes), then the model.

    Args:
        config: The folded config.
        catalog: What is installed.
        device: Instead of the config's.
        wanted: Top-level keys that must be there.
        known: Classes of a checkpoint, where the config names none. Where nobody does, the validation data is asked.
        load_weights: Whether components load the weights that the config names for them.
    """
    checked = plan(config, catalog, Recipe, load_weights=load_weights)
    missing = [key for key in wanted if key not in checked]
    if missing:
        raise ConfigError(config.table.where(), f"says nothing of {', '.join(missing)}", "This command needs it.")
    check_length(config, checked)
    names = checked.build("classes") or known
    flow = class_flow(config, names)
    validates = "val" in wanted or "train" in wanted or names is None
    splits = {
        key: checked.build(key, flow) if needed else None
        for key, needed in (("train", "train" in wanted), ("val", validates))
    }
    train: TrainSettings | None = splits["train"]
    if train is not None and train.batch_size < distributed.world_size():
        section: Any = config.table["train"]
        found = f"{train.batch_size} is less than one image for each of {distributed.world_size()} processes"
        raise ConfigError(section.where("batch_size"), found)
    datasets = {key: split.dataset for key, split in splits.items() if split}
    classes = _agreed_classes(config, datasets, names, checked.build("class_subset"))
    torch.manual_seed(checked.build("seed"))
    model = checked.build("model", class_flow(config, classes))
    for line in checked.reports:
        print(line)
    on = _device(device or checked.build("device"), "option --device" if device else config.table.where("device"))
    text = dump(config.table, without=_resolved(config))
    return Parts(
        model=model.to(on, memory_format=torch.channels_last if _channels_last(checked, on) else None),
        preprocess=(checked.build("preprocess") or Preprocess()).to(on),
        classes=classes,
        plan=checked,
        device=on,
        meta={"config": text, "classes": list(classes), "plugins": dict(checked.plugins)},
        **splits,
    )


def prepare(parts: Parts, folder: Path) -> Run:
    """The training run of these parts, at its beginning."""
    settings, checked = parts.train, parts.plan
    assert settings is not None, "built without wanting train"
    seed: int = checked.build("seed")
    rules = param_rules(checked)
    freeze(parts.model, rules)
    loader = Loader(
        settings.dataset,
        settings.transforms,
        batch_size=settings.batch_size,
        workers=settings.workers,
        shuffle=True,
        order=settings.order(settings.dataset, settings.batch_size) if settings.order else None,
        seed=seed,
        prefetch=settings.prefetch,
        persistent=settings.persistent_workers,
        drop_last=settings.drop_last,
        pin=parts.device.type == "cuda",
        rank=distributed.rank(),
        world=distributed.world_size(),
    )
    return Run(
        detector=parts.model,
        preprocess=parts.preprocess,
        optimizer=build_optimizer(parts.model, checked.build("optimizer"), rules, scale_of(settings)),
        loader=loader,
        epochs=settings.epochs,
        steps=settings.steps,
        accumulate=settings.accumulate,
        folder=folder,
        files={
            "config.toml": parts.meta["config"],
            "origin.txt": with_origins(checked.root.table),
            "environment.json": json.dumps(environment(parts.meta["plugins"]), indent=2) + "\n",
        },
        schedules=checked.build("schedule"),
        evaluate=evaluation(parts) if parts.val else None,
        callbacks={
            "console": ConsoleLog(),
            "jsonl": JsonlLog(),
            "folder": RunFolder(),
            "pictures": Pictures(),
            **(checked.build("callbacks") or {}),
        },
        amp=settings.amp,
        compile=settings.compile,
        clip_grad=settings.clip_grad,
        evaluate_every=parts.val.every if parts.val else 1,
        evaluate_steps=parts.val.every_steps if parts.val else None,
        save_every=settings.save_every,
        keep=settings.keep,
        best_metric=settings.best_metric,
        window=Window(settings.watch_every_step),
        report_every=settings.report_every,
        seed=seed,
        meta=parts.meta,
    )


def param_rules(checked: Plan) -> Rules:
    """``[params]``: each rule by its address."""
    table: Any = checked.root.table.get("params")
    return {table.where(name): rule for name, rule in (checked.build("params") or {}).items()}


def scale_of(settings: TrainSettings) -> float:
    """What learning rates are multiplied by, as they are meant for ``base_batch_size`` images a step; it is printed."""
    images, base = settings.batch_size * settings.accumulate, settings.base_batch_size
    if base is None:
        return 1.0
    if distributed.rank() == 0:
        print(f"learning rates x {images / base:g}: {images} images a step, base_batch_size {base}")
    return images / base


def evaluation(parts: Parts) -> Callable[..., Evaluation]:
    """A function that scores a detector on the validation data."""
    settings = parts.val
    assert settings is not None, "built without wanting val"
    agree_on_evaluator(settings.dataset, settings.evaluator(settings.dataset))  # before training, not after an epoch
    rank, world = distributed.rank(), distributed.world_size()
    loader = Loader(
        settings.dataset,
        settings.transforms,
        batch_size=settings.batch_size * world,
        workers=settings.workers,
        rank=rank,
        world=world,
    )

    def evaluate(detector: torch.nn.Module, tick: Tick = lambda done, of: None, samples: int = 8) -> Evaluation:
        return score(
            detector=detector,
            preprocess=parts.preprocess,
            loader=loader,
            evaluator=settings.evaluator(settings.dataset),
            amp=parts.plan.build("train.amp") or "off",
            losses=settings.loss,
            samples=samples,
            tick=tick,
        )

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


def _agreed_classes(
    config: Config, datasets: Mapping[str, Dataset], names: Sequence[str] | None, subset: bool
) -> Sequence[str]:
    """The classes that config and data agree on.

    Raises:
        ConfigError: They differ, nobody names any, or some that are annotated are left out and no ``subset`` is meant.
        DataError: A dataset has no image.
    """
    where = config.table.where()
    for key, dataset in datasets.items():
        if not len(dataset):
            section: Any = config.table[key]
            raise DataError(section.where("dataset"), "has no image")
    known: dict[str, Any] = {} if names is None else {"config": names}
    known |= {f"{key}.dataset": dataset for key, dataset in datasets.items()}
    if not known:
        raise ConfigError(where, "nothing says which classes there are", 'Write classes = ["...", ...].')
    agree(where, known, 'List those that are meant, in order, at the top of the config: classes = ["...", ...].')
    for key, dataset in datasets.items() if "classes" in config.table and not subset else ():
        all_used(where, tuple(names or ()), f"{key}.dataset", dataset)
    return tuple(cells(next(iter(known.values()))))


def check_length(config: Config, checked: Plan) -> None:
    """Raises ConfigError where ``[train]`` says how long it is in two ways, or in none."""
    given = sum(checked.build(f"train.{key}") is not None for key in ("epochs", "steps"))
    if "train" in checked and given != 1:
        section: Any = config.table["train"]
        raise ConfigError(section.where(), f"takes one of epochs and steps, found {'both' if given else 'neither'}")


def _resolved(config: Config) -> set[str]:
    """Keys of the top level that were there for references: these are resolved, and nobody else reads them."""
    return {key for key in config.table if key not in {*attrs.fields_dict(Recipe), "plugins", "vars"}}


def _channels_last(checked: Plan, device: torch.device) -> bool:
    """What the config says; else where it is faster (benchmarks/step.py)."""
    told: bool | None = checked.build("channels_last")
    mixed = (checked.build("train.amp") or "off") != "off"
    return (device.type == "cpu" or (device.type == "cuda" and mixed)) if told is None else told


def _device(name: str, where: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and distributed.is_parallel():
        name = f"cuda:{distributed.local_rank()}"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(where, f'"{name}" cannot be used: {str(error).splitlines()[0]}') from error
