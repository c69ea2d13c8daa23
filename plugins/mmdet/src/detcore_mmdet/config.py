"""A whole config of MMDetection in detcore's words: model, data, optimizer, schedule, hooks, and what is left over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from detcore.catalog import Catalog
from detcore.errors import ConfigError, one_line
from detcore.foreign import Foreign, Log, Part, Remark
from detcore.plugins import discover

from detcore_mmdet import optimizer as optimizers
from detcore_mmdet import schedules, vocabulary
from detcore_mmdet.data import Split, preprocess, train_split, val_split
from detcore_mmdet.model import plain as plain_values
from detcore_mmdet.model import read_model, translations
from detcore_mmdet.views import views

SCOPE = re.compile(r"^(?:mmdet|mmcv|mmengine)\.(?:\w+\.)*")
"""What may stand before a component's name."""

READ = (
    "model", "train_dataloader", "val_dataloader", "val_evaluator", "optim_wrapper", "param_scheduler", "train_cfg",
    "auto_scale_lr", "default_hooks", "custom_hooks", "load_from", "randomness", "vis_backends", "workflow",
    "tta_model", "tta_pipeline", "data",
)  # fmt: skip
"""Keys of the top level that have a meaning here."""
DROPPED = {
    "test_dataloader": "what is tested is what is validated: `core-run eval` takes any data with --set",
    "test_evaluator": "as test_dataloader",
    "val_cfg": "as train_cfg says",
    "test_cfg": "as train_cfg says",
    "visualizer": "pictures are drawn to the folder of the run",
    "env_cfg": "processes, threads and back ends are found",
    "log_processor": "lines of the log are means since the one before",
    "log_level": "core-run logs what a user can mend",
    "resume": "`core-run train --resume`",
    "resume_from": "`core-run train --resume`",
    "work_dir": "`core-run train --work-dir`",
    "default_scope": "names are looked up in the plugins that are installed",
    "launcher": "torchrun",
    "dist_params": "torchrun",
    "gpu_ids": "torchrun",
    "device": "the best there is, or `device`",
    "find_unused_parameters": "losses are tied to all parameters",
    "cudnn_benchmark": "torch chooses",
    "opencv_num_threads": "OpenCV is not used",
    "mp_start_method": "processes begin as torch begins them",
    "custom_imports": "plugins are installed, or named in [plugins]",
    "auto_resume": "`core-run train --resume auto`",
}
"""Keys of the top level that have no meaning here, and what there is instead."""


@attrs.frozen
class Imported:
    """What became of a config.

    Attributes:
        table: Ours; ``model`` is the detector's.
        wrapped: The detector around it that sees images flipped and scaled in tests, without it; None where none does.
        part: The detector, which knows the names of its tensors there.
        source: The ``model`` table there, resolved.
        lost: What has no counterpart, by key path.
        notes: What was taken over otherwise than as it was.
        dropped: What has no meaning here.
        num_classes: C; None where heads do not say, or disagree.
        values: How many values the config has that mean something; variables of its file are not counted.
    """

    table: dict[str, Any]
    wrapped: dict[str, Any] | None
    part: Part
    source: Mapping[str, Any]
    lost: Sequence[Remark]
    notes: Sequence[Remark]
    dropped: Sequence[Remark]
    num_classes: int | None
    values: int

    @property
    def lacks(self) -> list[Remark]:
        """Parts of the detector that nobody translates: without them it cannot be built."""
        found = [each for each in self.lost if each.path.split(".")[0] == "model" and _is_part(each)]
        if not found and not ("backbone" in self.part.table and {"head", "roi_head"} & self.part.table.keys()):
            return [Remark("model", self.source.get("type"), "it has no backbone and head")]
        return found

    @property
    def whole(self) -> bool:
        """Whether everything has a counterpart."""
        return not self.lost


def _is_part(remark: Remark) -> bool:
    """Whether a key of the model is a module, rather than a number of one."""
    if remark.path.startswith("model.data_preprocessor"):
        return False
    if remark.why.startswith(("no installed plugin", "cannot be read")):
        return True
    own = remark.path.count(".") == 1 and remark.path != "model.init_cfg"
    return own and isinstance(remark.value, Mapping) and "type" in remark.value


def import_config(
    config: Mapping[str, Any], catalog: Catalog | None = None, *, processes: int | None = None
) -> Imported:
    """A resolved config of MMDetection, 2.x or 3.x, in detcore's words.

    Args:
        config: As MMDetection reads it: bases folded, variables replaced.
        catalog: The plugins that know names; None: all that are installed.
        processes: How many trained at once. None: as many as ``auto_scale_lr`` was written for.

    Raises:
        ConfigError: Its sections are not what they are in MMDetection.
    """
    values = unscoped(plain_values(config))
    try:
        return _imported(values, catalog or discover(), processes)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        fix = "Does MMDetection read it?"
        raise ConfigError("config", f"is not as MMDetection's are: {one_line(error)}", fix) from error


def _imported(values: dict[str, Any], catalog: Catalog, processes: int | None) -> Imported:
    older = vocabulary.is_older(values)
    root = Root(vocabulary.modern(values) if older else values, Log(translations(catalog)))
    reader = Reader(root, processes)
    table = reader.read()
    wrapped = views(root, table)
    lost, notes = [*root.log.lost, *root.unread()], [*root.log.notes]
    if older:
        lost, notes = (
            [attrs.evolve(each, path=vocabulary.old_path(each.path)) for each in some] for some in (lost, notes)
        )
    dropped = [
        Remark(key, values[key], why) for key, why in DROPPED.items() if values.get(key) not in (None, False, {}, [])
    ]
    kept = {key: value for key, value in root.values.items() if key in READ}
    return Imported(
        table,
        wrapped,
        reader.part,
        values.get("model") or {},
        _once(lost),
        _once(notes),
        dropped,
        reader.num_classes,
        count(kept),
    )


class Root(Foreign):
    """The top level of a config, where variables of its file stand beside what means something."""

    def __init__(self, values: Mapping[str, Any], log: Log) -> None:
        super().__init__(values, "", log)

    def unread(self) -> Iterator[Remark]:
        """Keys that nobody read, variables aside."""
        return (each for each in super().unread() if each.path.split(".")[0] in READ)

    def _at(self, key: str) -> str:
        return key


class Reader:
    """Reads a config section by section.

    Args:
        root: Its top level.
        processes: As :func:`import_config` has it.
    """

    def __init__(self, root: Root, processes: int | None) -> None:
        self.root, self.processes = root, processes
        self.callbacks: dict[str, Any] = {}
        self.part = Part({}, "")
        self.num_classes: int | None = None

    def read(self) -> dict[str, Any]:
        """The whole table."""
        root = self.root
        root.get("data")
        model = read_model(Foreign(root.get("model") or {}, "model", root.log))
        self.part, self.callbacks, self.num_classes = model.part, dict(model.callbacks), model.num_classes
        optimizer = optimizers.optimizer(root.table("optim_wrapper"))
        length = self.length()
        train = train_split(root.table("train_dataloader")) if root.get("train_dataloader") else None
        val = self.validation()
        sections: dict[str, Any] = {
            "train": {**(train.table if train else {}), **length["train"], **optimizer.train},
            "val": {**val.table, **length["val"]} if val else None,
        }
        hooks = self.hooks(sections["train"])
        sections["train"] |= hooks["train"]
        if train:
            self.batches(sections["train"])
        if train and val:
            self.agree(train.preprocess, val.preprocess)
        rules = optimizers.plain_rules(optimizers.rules(optimizer.paramwise, self.part))
        table = {
            "classes": self.classes(train, val, model.num_classes),
            "seed": root.table("randomness").get("seed"),
            "model": _with_loss(self.part.plain, hooks["loss"]),
            "preprocess": preprocess(model.preprocess, train.preprocess if train else {}, val),
            **sections,
            "optimizer": optimizer.optimizer,
            "params": rules,
            "schedule": self.schedule(optimizer.rate, sections["train"]),
            "callbacks": self.callbacks,
        }
        if root.get("load_from"):  # its tensors have other names there
            root.note(
                "load_from", "core-run import-mmdet CONFIG CHECKPOINT makes one of ours of it: then set init_from"
            )
        root.table("randomness").read |= {"deterministic", "diff_rank_seed"}
        return {key: value for key, value in table.items() if value not in (None, {}, [])}

    def validation(self) -> Split | None:
        """``[val]``."""
        root = self.root
        if not root.get("val_dataloader"):
            root.get("val_evaluator")
            return None
        return val_split(root.table("val_dataloader"), root.tables("val_evaluator"))

    def length(self) -> dict[str, dict[str, Any]]:
        """``train_cfg``: how long, and when is validated."""
        table = self.root.table("train_cfg")
        steps = table.get("max_iters")
        kind = table.get("type", "EpochBasedTrainLoop")
        if kind not in ("EpochBasedTrainLoop", "IterBasedTrainLoop"):
            table.lose("type", "only epochs and steps are counted")
        for key in ("val_begin", "dynamic_intervals"):
            if table.get(key) not in (None, 1, 0):
                table.note(key, "is validated at equal distances from the beginning on, and at the end")
        every = table.get("val_interval", 1)
        if steps:
            return {"train": {"steps": steps}, "val": {"every_steps": every}}
        epochs = table.get("max_epochs")
        return {"train": {"epochs": epochs} if epochs else {}, "val": {} if every == 1 else {"every": every}}

    def batches(self, train: dict[str, Any]) -> None:
        """All images of a step: how many processes there were, the config does not say."""
        root, each = self.root, train["batch_size"]
        base, scaled = optimizers.base_batch_size(root.table("auto_scale_lr"))
        if self.processes is not None:
            train["batch_size"] = each * self.processes
            if base and scaled:
                train["base_batch_size"] = base
        elif base:
            train["batch_size"] = train["base_batch_size"] = base
            how = f"{base} images a step, as the rate is meant for (there {each} for each process); it follows others"
            root.table("auto_scale_lr").note("base_batch_size", how)
        else:
            how = "the images of one process: times the number of processes that there were"
            root.table("train_dataloader").note("batch_size", how)

    def agree(self, train: Mapping[str, Any], val: Mapping[str, Any]) -> None:
        """Images are normalised and padded in one way here, in training and validation."""
        loader = self.root.table("train_dataloader")
        if "mean" in val and any(train.get(key) != val.get(key) for key in ("mean", "std", "color")):
            loader.lose("dataset", "images are normalised as those of validation")
        if "size" in train and "size" not in val:
            loader.note("dataset", "batches of training are padded to their largest image, not to a fixed size")

    def classes(self, train: Split | None, val: Split | None, number: int | None) -> list[str] | None:
        """Their names, where data and heads agree on their number."""
        named = [split.classes for split in (train, val) if split is not None and split.classes]
        if len(named) == 2 and named[0] != named[1]:
            self.root.table("val_dataloader").note("dataset", "its classes are others than those of training")
        if not named:
            return None
        if number is not None and len(named[0]) != number:
            why = f"heads have {number} classes, the data set {len(named[0])}: they are those of the annotations"
            self.root.table("train_dataloader").note("dataset", why)
            return None
        return named[0]

    def schedule(self, rate: float | None, train: Mapping[str, Any]) -> list[Any]:
        """``param_scheduler``."""
        root = self.root
        found = schedules.translated(root.tables("param_scheduler"), rate, train.get("epochs"), train.get("steps"))
        counted = train.get("accumulate", 1)
        if counted > 1:
            found = [_fewer(each, counted) for each in found]
        return found

    def hooks(self, train: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What hooks say of ``[train]`` and the head's loss; their callbacks are kept."""
        root = self.root
        found: dict[str, dict[str, Any]] = {"train": {}, "loss": {}}
        given = {"before": train.get("transforms"), "epochs": train.get("epochs")}
        own = root.table("default_hooks")
        names = {"checkpoint": "CheckpointHook", "logger": "LoggerHook"}
        tables = [(own.table(key), names.get(key, "")) for key in own.values if own.get(key)]
        for table, name in [*tables, *((each, "") for each in root.tables("custom_hooks"))]:
            if name or "type" in table:
                self._take(table.translated(name, **given), found)
                table.read |= given.keys()
            else:
                table.read |= {*table.values}
        for table in root.tables("vis_backends"):
            if table.get("type") in ("LocalVisBackend", "TextLoggerHook"):
                table.read |= {*table.values}
            else:
                self._take(table.translated(), found)
        if root.get("workflow") and len(root.get("workflow")) > 1:
            root.note("workflow", "losses of validation: set val.loss = true")
        return found

    def _take(self, effect: Any, found: dict[str, dict[str, Any]]) -> None:
        for key, value in (effect or {}).items():
            (self.callbacks if key == "callbacks" else found[key]).update(value)


def unscoped(value: Any) -> Any:
    """A config's values with names of components as they are, whatever package they are of."""
    if isinstance(value, list):
        return [unscoped(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: unscoped(each) for key, each in value.items() if key != "_scope_"}
    if isinstance(found.get("type"), str):
        found["type"] = SCOPE.sub("", found["type"])
    return found


def count(value: Any) -> int:
    """How many values a table has, however deep."""
    if isinstance(value, Mapping):
        return sum(count(each) for key, each in value.items())
    if isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        return sum(count(each) for each in value)
    return 1


def _with_loss(model: dict[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """A detector whose head's loss has further keys; without any, YOLOX never counts its last loss."""
    loss = model.get("head", {}).get("loss") if isinstance(model.get("head"), dict) else None
    if isinstance(loss, dict) and loss.get("type") == "YOLOXLoss":
        loss |= {"l1_from": 1.0, **keys}
    return model


def _fewer(schedule: Mapping[str, Any], counted: int) -> dict[str, Any]:
    """A schedule in steps of which each has several batches, which are what is counted there."""
    found = dict(schedule)
    unit = found.get("unit") == "steps"
    for key in ("steps", *(("begin", "end") if unit else ())):
        value = found.get(key)
        if isinstance(value, list):
            found[key] = [-(-each // counted) for each in value]
        elif value is not None:
            found[key] = -(-value // counted)
    return found


def _once(remarks: Sequence[Remark]) -> list[Remark]:
    return [*{str(each): each for each in remarks}.values()]
