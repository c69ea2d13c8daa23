"""What scripts ask of a config beside its detector."""

from __future__ import annotations

from typing import Any

from detcore.assemble import Strings, class_flow, load
from detcore.build import plan
from detcore.catalog import Catalog
from detcore.config import Config
from detcore.errors import ConfigError
from detcore.interfaces import Dataset
from detcore.recipe import Recipe


def load_config(source: str, *, sets: Strings = (), swaps: Strings = ()) -> Config:
    """The folded config of a file or ``distribution::path``."""
    return load(source, sets, swaps)[0]


def load_dataset(source: str, split: str = "val", *, sets: Strings = (), swaps: Strings = ()) -> Dataset:
    """The dataset of ``[train]`` or ``[val]`` of a config, without its transforms."""
    dataset: Dataset = split_of(*load(source, sets, swaps), split).dataset
    return dataset


def split_of(config: Config, catalog: Catalog, split: str) -> Any:
    """The settings of ``[train]`` or ``[val]``, built without a model.

    Raises:
        ConfigError: There is no such section; or of building it.
    """
    checked = plan(config, catalog, Recipe)
    if split not in ("train", "val") or split not in checked:
        raise ConfigError(config.table.where(), f"says nothing of {split}")
    return checked.build(split, class_flow(config, checked.build("classes")))
