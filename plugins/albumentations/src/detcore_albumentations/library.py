"""The library: imported without a look at the network, its transforms made of tables, what is wrong with them said."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from detcore.errors import ConfigError, did_you_mean

OFFLINE = "NO_ALBUMENTATIONS_UPDATE"
"""Unless it is set, importing the library asks the network for a newer one."""


@cache
def library() -> Any:
    """The module; the environment is as it was afterwards."""
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        return importlib.import_module("albumentations")
    finally:
        if before is None:
            del os.environ[OFFLINE]
        else:
            os.environ[OFFLINE] = before


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV works in this thread alone.

    Its threads do not live on in a process that is forked, as workers are, which then waits for them for ever; and
    workers are as many as there are cores.
    """
    opencv = importlib.import_module("cv2")
    before = opencv.getNumThreads()
    opencv.setNumThreads(1)
    try:
        yield
    finally:
        opencv.setNumThreads(before)


def names() -> dict[str, Any]:
    """What a table may name: transforms of pictures and compositions of them."""
    found = library()
    kinds = (found.BasicTransform, found.BaseCompose)
    left_out = {*kinds, found.DualTransform, found.ImageOnlyTransform, found.Transform3D, found.ReplayCompose}
    classes = {name: each for name, each in vars(found).items() if inspect.isclass(each) and issubclass(each, kinds)}
    return {
        name: each
        for name, each in classes.items()
        if each not in left_out and not issubclass(each, found.Transform3D) and not name.startswith("_")
    }


def made_all(tables: Any, where: str) -> list[Any]:
    """A transform for each table of a list. Raises ConfigError as :func:`made`."""
    return [made(table, f"{where}.{number}") for number, table in enumerate(tables)]


def made(table: Mapping[str, Any], where: str) -> Any:
    """The transform that a table describes by ``type`` and parameters; tables within it are transforms, too.

    Args:
        table: Of a config.
        where: What messages call it.

    Raises:
        ConfigError: There is no such transform, it cannot move boxes, or does not take what it is given.
    """
    name, known = table.get("type"), names()
    if not isinstance(name, str):
        raise ConfigError(where, f"{dict(table)} has no type", 'Write {type = "HorizontalFlip", p = 0.5}.')
    if name not in known:
        found = f"albumentations {library().__version__} has no transform {name} of pictures"
        raise ConfigError(where, found, did_you_mean(name, known))
    given = {key: value for key, value in table.items() if key != "type"}
    _check_names(name, known[name], given, where)
    values = {key: _value(value, f"{where}.{key}") for key, value in given.items()}
    try:
        transform = known[name](**values)
    except Exception as error:  # the library's own, of many kinds
        raise ConfigError(where, f"{name}: {_said(error)}") from error
    _check_moves_boxes(name, transform, where)
    return transform


def _value(value: Any, where: str) -> Any:
    if isinstance(value, Mapping) and "type" in value:
        return made(value, where)
    if isinstance(value, Sequence) and value and all(isinstance(each, Mapping) for each in value):
        return made_all(value, where)
    return value


def _check_names(name: str, kind: Any, given: Mapping[str, Any], where: str) -> None:
    """The library only warns of parameters that it does not know."""
    parameters = [*inspect.signature(kind.__init__).parameters][1:]
    for key in given:
        if key not in parameters:
            fix = f"{did_you_mean(key, parameters)} It takes: {', '.join(parameters)}.".strip()
            raise ConfigError(f"{where}.{key}", f"not a parameter of {name}", fix)


def _check_moves_boxes(name: str, transform: Any, where: str) -> None:
    dual = isinstance(transform, library().DualTransform)
    if dual and "bboxes" not in _targets(transform):
        raise ConfigError(where, f"{name} moves pixels, but no boxes", "Choose another transform.")


def _targets(transform: Any) -> set[str]:
    """What a transform says that it moves."""
    declared = transform._targets  # what is not declared raises when it is called
    return {each.value.lower() for each in (declared if isinstance(declared, tuple) else (declared,))}


def _said(error: Exception) -> str:
    """What the library found wrong, in a line."""
    errors = getattr(error.__cause__, "errors", None)
    if errors is None:
        return " ".join(str(error).split())
    problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors()]
    return "; ".join(dict.fromkeys(problems))
