"""From the name of a format, or a config, to its data set."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detcore.assemble import Strings, load
from detcore.errors import ConfigError, Problems, UserError, did_you_mean, raise_all
from detcore.scripts import split_of
from detcore_records.samples import ImageFiles

from detcore_convert.command import SOURCES

HOME = "train.dataset"
"""Where a data set is in a config."""
CONFIG = "[train]\nepochs = 1\nbatch_size = 1\n[{home}]\ntype = {type}\n"


def open_dataset(source: str, split: str, sets: Strings) -> ImageFiles:
    """The data set of a format with these parameters, or of a config.

    Raises:
        UserError: Of the config or parameters, or of the data; there is no such format; it has no files of images.
    """
    if source.endswith(".toml") or "::" in source:
        dataset = split_of(*load(source, sets), split).dataset
    else:
        dataset = _of_format(source, sets)
    if not isinstance(dataset, ImageFiles):
        found = f"{type(dataset).__name__} is no data set of files of images and annotations"
        raise ConfigError(source, found, "It cannot be converted; those that it is made of can.")
    return dataset


def _of_format(source: str, sets: Strings) -> Any:
    named = source[:1].isupper() or "/" in source
    if source not in SOURCES and not named:
        fix = did_you_mean(source, SOURCES) or f"Formats are {', '.join(SOURCES)}."
        raise ConfigError("core-run convert", f'"{source}" is no format, type of a data set, or config', fix)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "convert.toml")
        file.write_text(CONFIG.format(home=HOME, type=json.dumps(SOURCES.get(source, source))), encoding="utf-8")
        try:
            return split_of(*load(str(file), [f"{HOME}.{each.lstrip()}" for each in sets]), "train").dataset
        except UserError as error:
            every = error.errors if isinstance(error, Problems) else [error]
            words = {f"{file}: {HOME}": f"convert {source}", str(file): f"convert {source}", f"{HOME}.": ""}
            raise_all([_told(each, words) for each in every])
            raise


def _told(error: UserError, words: Mapping[str, str]) -> UserError:
    """The same, in other words: there is no config that the user knows of."""
    texts = [error.where, error.found, error.fix]
    for old, new in words.items():
        texts = [text.replace(old, new) for text in texts]
    told = UserError(*texts)
    told.__cause__ = error
    return told


def reads_no_outlines(dataset: ImageFiles) -> bool:
    """It could read outlines and was not told to."""
    takes = "segmentation" in inspect.signature(type(dataset)).parameters
    return takes and getattr(dataset, "segmentation", "") == "none"
