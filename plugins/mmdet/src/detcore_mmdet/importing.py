"""What ``core-run import-mmdet`` does: a config is read, translated, written, checked and reported."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from detcore import assemble, checks
from detcore.errors import CheckpointError, ConfigError, UserError, one_line
from detcore.files import replacing, write_text
from detcore.foreign import Remark

from detcore_mmdet.checkpoint import Checkpoint, import_checkpoint, read_checkpoint
from detcore_mmdet.config import Imported, import_config
from detcore_mmdet.reading import read_config
from detcore_mmdet.writing import render, written

SECTIONS = {
    "model": "model",
    "data_preprocessor": "preprocess",
    "train_dataloader": "train",
    "data": "train",
    "auto_scale_lr": "train",
    "train_cfg": "train",
    "workflow": "train",
    "default_hooks": "train",
    "checkpoint_config": "train",
    "log_config": "train",
    "val_dataloader": "val",
    "val_evaluator": "val",
    "evaluation": "val",
    "optim_wrapper": "optimizer",
    "optimizer": "optimizer",
    "optimizer_config": "optimizer",
    "param_scheduler": "schedule",
    "lr_config": "schedule",
    "custom_hooks": "callbacks",
    "vis_backends": "callbacks",
    "load_from": "model",
}
"""Where a remark on a key of theirs stands in ours."""
NEEDLESS = re.compile(r"params\.(\w+): matches no parameter")
LONGEST = 100
"""Characters of a value in a report."""


@attrs.frozen
class Outcome:
    """What the command did.

    Attributes:
        lines: The report, as it is printed.
        config: The file that was written.
        passes: Whether ``core-run check`` finds nothing wrong with it.
    """

    lines: Sequence[str]
    config: Path
    passes: bool


def run(
    source: Path,
    checkpoint: Path | None,
    folder: Path,
    *,
    roots: Sequence[Path] = (),
    partial: bool = False,
    processes: int | None = None,
    force: bool = False,
) -> Outcome:
    """Import a config, and a checkpoint with it.

    Args:
        source: A config of MMDetection, ``.py`` or ``.json``.
        checkpoint: A checkpoint of it.
        folder: Where ``<name>.toml``, ``<name>_tta.toml``, ``<name>.pt`` and a report, ``<name>.md``, go.
        roots: Folders that bases of other packages are looked for in.
        partial: Write what could be translated even where the detector lacks parts.
        processes: How many trained at once.
        force: Replace files that are there.

    Raises:
        ConfigError: The config cannot be read, or its detector lacks parts.
        CheckpointError: The checkpoint cannot be read, or is none of this config.
    """
    target = folder / f"{source.stem}.toml"
    refuse_existing([target, target.with_suffix(".md"), *([target.with_suffix(".pt")] if checkpoint else [])], force)
    saved = None if checkpoint is None else read_checkpoint(checkpoint)
    found = named(import_config(read(source, roots), processes=processes), saved)
    if found.lacks and not partial:
        raise ConfigError(str(source), lacking(found), "--partial writes what there is, to be finished by hand.")
    folder.mkdir(parents=True, exist_ok=True)
    found, problems = write(source, target, found)
    lines = [*report(source, target, found, problems), *with_views(target, found)]
    if checkpoint is not None and saved is not None:
        lines += weights(checkpoint, saved, target, found)
    write_text(target.with_suffix(".md"), markdown(lines, found))
    return Outcome(lines, target, not problems)


def write(source: Path, target: Path, found: Imported) -> tuple[Imported, list[str]]:
    """Write the config; what was written, and what is wrong with it.

    A rule of ``paramwise_cfg`` that is for no parameter is an error here and nothing there: it is left out.
    """
    while True:
        write_text(target, written(found.table, notes(found), header(source, found)))
        problems = checked(target)
        needless = {match[1] for each in problems if (match := NEEDLESS.search(each))} & found.table.get(
            "params", {}
        ).keys()
        if not needless:
            return found, problems
        rules = {name: rule for name, rule in found.table["params"].items() if name not in needless}
        remarks = [Remark(f"optim_wrapper.paramwise_cfg ({name})", None, "it is for no parameter") for name in needless]
        table = {key: value for key, value in {**found.table, "params": rules}.items() if value != {}}
        found = attrs.evolve(found, table=table, notes=[*found.notes, *remarks])


def with_views(target: Path, found: Imported) -> list[str]:
    """Write the config that tests with several views of an image, if there are any; lines of the report."""
    if found.wrapped is None:
        return []
    path = target.with_name(f"{target.stem}_tta.toml")
    about = [f"{target.name}, tested with images that are flipped and scaled, too."]
    about += [f"{each.path}: {each.why}" for each in found.notes if each.path.startswith("tta_model")]
    write_text(path, render({"_base_": target.name, "model": {"_wrap_": "detector", **found.wrapped}}, {}, about))
    problems = checked(path)
    return [f"{path}: written; core-run eval {path} CHECKPOINT", *(f"{path}: {each}" for each in problems)]


def read(source: Path, roots: Sequence[Path] = ()) -> Mapping[str, Any]:
    """A config of MMDetection, resolved: what it inherits is in it.

    Raises:
        ConfigError: It cannot be read.
    """
    values = read_config(source, roots=roots)
    if not isinstance(values, Mapping) or not isinstance(values.get("model"), Mapping):
        raise ConfigError(str(source), "has no table `model`", "Name a config of a detector, not a fragment of one.")
    return values


def refuse_existing(paths: Sequence[Path], force: bool) -> None:
    """Raises ConfigError where a file is there that is not to be replaced."""
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise ConfigError(str(there[0]), "is there already", "--force replaces it.")


def lacking(found: Imported) -> str:
    """The parts that nobody translates, in one line."""
    parts = ", ".join(f"{each.path} ({each.value})" for each in found.lacks)
    return f"its detector has parts without a counterpart: {parts}"


def checked(path: Path) -> list[str]:
    """What is wrong with a config: lines of ``core-run check``."""
    try:
        checks.check(str(path))
    except UserError as error:
        return str(error).splitlines()
    return []


# ------------------------------------------------------------------------------------------------ what is said


def header(source: Path, found: Imported) -> list[str]:
    """The first lines of the file."""
    lines = [f"{source.name}, a config of MMDetection, as core-run import-mmdet translates it."]
    lines += [f"Without counterpart: {shown(each)}" for each in found.lost]
    return lines


def notes(found: Imported) -> dict[str, list[str]]:
    """Comments by section."""
    result: dict[str, list[str]] = {}
    for each in found.notes:
        first, _, rest = each.path.partition(".")
        if first == "tta_model":
            continue
        key = "preprocess" if rest.startswith("data_preprocessor") else SECTIONS.get(first, first)
        section = key if key in found.table else "model"
        result.setdefault(section, []).append(f"{each.path}: {each.why}")
    return {key: list(dict.fromkeys(lines)) for key, lines in result.items()}


def shown(remark: Remark) -> str:
    """A remark in a line that is not too long."""
    value = repr(remark.value)
    value = value if len(value) <= LONGEST else f"{value[: LONGEST - 3]}..."
    return f"{remark.path} = {value}: {remark.why}"


def report(source: Path, target: Path, found: Imported, problems: Sequence[str]) -> list[str]:
    """What is printed."""
    fully = max(found.values - len(found.lost) - len(found.notes), 0)
    lines = [
        f"{source}: {found.values} values; {fully} translated as they are, {len(found.notes)} otherwise, "
        f"{len(found.lost)} without counterpart; {len(found.dropped)} without meaning here"
    ]
    lines += [f"  otherwise: {shown(each)}" for each in found.notes]
    lines += [f"  without counterpart: {shown(each)}" for each in found.lost]
    if found.dropped:
        lines.append(
            f"  without meaning here: {', '.join(each.path for each in found.dropped)} ({target.stem}.md says why)"
        )
    if problems:
        lines += [f"{target}: written, and core-run check finds: {problem}" for problem in problems]
    elif found.whole:
        lines.append(f"{target}: written, and core-run check finds no problem")
    else:
        lines.append(f"{target}: written without the {len(found.lost)} above; core-run check finds no problem")
    return lines


def markdown(lines: Sequence[str], found: Imported) -> str:
    """The report as a file."""
    parts = [f"# {lines[0]}", *(f"- {each.strip()}" for each in lines[1:])]
    for title, remarks in (
        ("Without counterpart", found.lost),
        ("Otherwise than there", found.notes),
        ("Without meaning here", found.dropped),
    ):
        parts += ["", f"## {title}", ""]
        parts += [f"- `{each.path}`: {each.why}" for each in remarks] or ["Nothing."]
    return "\n".join(parts) + "\n"


# ------------------------------------------------------------------------------------------------ weights


def named(found: Imported, saved: Checkpoint | None) -> Imported:
    """A config with the classes of a checkpoint, where it names none itself and there are as many."""
    classes = saved.classes if saved is not None else None
    if not classes or "classes" in found.table or found.num_classes not in (None, len(classes)):
        return found
    return attrs.evolve(found, table={**found.table, "classes": list(classes)})


def weights(checkpoint: Path, saved: Checkpoint, target: Path, found: Imported) -> list[str]:
    """Write a checkpoint of ours beside the config; lines of the report.

    Raises:
        CheckpointError: It does not fit.
    """
    config, catalog = assemble.load(str(target))
    number = range(found.num_classes or 0)
    known = None if "classes" in config.table else [f"class {each}" for each in number] or None
    parts = assemble.build(config, catalog, "cpu", known=known, load_weights=False)
    state, lines = import_checkpoint(checkpoint, found.part, parts.model.state_dict())
    path = target.with_suffix(".pt")
    content = {
        "model": {name: value.detach().clone() for name, value in state.items()},
        "averaged": None,
        "preprocess": parts.preprocess.settings,
        "meta": {**parts.meta, "mmdet": {"model": json.dumps(found.source)}},
    }
    _save(content, path)
    if saved.classes and list(saved.classes) != list(parts.classes):
        lines = [*lines, f"{checkpoint}: calls its classes {', '.join(saved.classes)}; the config's names are kept"]
    return [*lines, f'{path}: written; core-run predict {path} IMAGE, or init_from = "{path}"']


def _save(content: Mapping[str, Any], path: Path) -> None:
    """At once or not at all. Raises CheckpointError where the system does not let it."""
    try:
        with replacing(path) as temporary:
            torch.save(dict(content), temporary)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(str(path), f"cannot be written: {one_line(error)}") from error
