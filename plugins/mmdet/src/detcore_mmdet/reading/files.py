"""Files of configs: what stands in one, and where those lie that it inherits."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from detcore.errors import ConfigError

from detcore_mmdet.reading.limits import BYTES, FORMATTED, Refused, near, short, where

PACKAGE = "mmdet"
CONFIGS = ".mim/configs"
"""Where a package of MMDetection's family has its old-style configs; ``configs`` the new-style ones."""
_F_STRING = re.compile(r"""(?<!\w)(?:f|rf|fr)["']""", re.IGNORECASE)
_GIVE = "Give the folder of MMDetection's configs, or install mmdet."


def text_of(path: Path) -> str:
    """What a config says.

    Raises:
        ConfigError: It is no file, too large, or no UTF-8.
    """
    if path.suffix not in (".py", ".json"):
        raise ConfigError(where(path), f"a config ends in .py or .json, not in {path.suffix!r}")
    try:
        if not path.is_file():
            raise ConfigError(where(path), "there is no such file", _near(path))
        data = path.read_bytes() if path.stat().st_size <= BYTES else None
    except (OSError, ValueError) as error:
        raise ConfigError(where(path), f"cannot be read: {error}") from None
    if data is None:
        raise ConfigError(where(path), f"a config has at most {BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(where(path, line), "a config is written in UTF-8, this is not", "Save it as UTF-8.") from None


def parsed(text: str, path: Path) -> ast.Module:
    """The syntax tree of a config in Python.

    Raises:
        ConfigError: It is no Python.
    """
    if "\0" in text:
        raise ConfigError(where(path, text[: text.index("\0")].count("\n") + 1), "not Python: a NUL character")
    if len(text) > FORMATTED and _F_STRING.search(text):
        raise ConfigError(where(path), f"a config with f-strings has at most {FORMATTED} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as \d
            return ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(where(path, error.lineno or 1), f"not Python: {error.msg}") from None
    except (ValueError, OverflowError) as error:
        raise ConfigError(where(path, 1), f"not Python: {error}") from None
    except (RecursionError, MemoryError):
        raise ConfigError(where(path, 1), "not read: nested too deeply") from None


def is_lazy(tree: ast.Module) -> bool:
    """Whether a config is new-style: inherits by ``with read_base()`` or imports what it names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_base_":
            return False
        if isinstance(node, ast.With) or (isinstance(node, ast.ImportFrom) and node.level):
            return True
        if isinstance(node, ast.ImportFrom) and _foreign(node.module or ""):
            return True
        if isinstance(node, ast.Import) and any(_foreign(alias.name) for alias in node.names):
            return True
    return False


def _foreign(module: str) -> bool:
    return not module.startswith("mmengine.config") and module.partition(".")[0] not in sys.stdlib_module_names


def base_file(base: str, file: Path, roots: Sequence[Path]) -> Path:
    """The file that an entry of ``_base_`` names: relative to the config, or ``mmdet::path``.

    Raises:
        Refused: It lies nowhere.
    """
    package, external, path = base.rpartition("::")
    folders = [file.parent]
    if external:
        folders = [*(roots if package == PACKAGE else ()), *installed(package, CONFIGS)]
    for folder in folders:
        found = Path(os.path.normpath(folder / path))
        if _is_file(found):
            return found
        if not external:
            raise Refused(f"it inherits from '{short(base)}', and there is no file {where(found)}", _near(found))
    tried = f"not found in {', '.join(map(str, folders))}" if folders else "and no folder of its configs is known"
    raise Refused(f"it inherits from '{short(base)}', {tried}", _give(package))


def module_file(module: str, file: Path, roots: Sequence[Path]) -> Path:
    """The file that ``from MODULE import *`` names in a new-style config.

    Raises:
        Refused: It lies nowhere.
    """
    dots = len(module) - len(module.lstrip("."))
    package, *parts = module.lstrip(".").split(".")
    tail = Path(*parts)
    if dots:
        folders, tail = [Path(file.parent, *[".."] * (dots - 1))], Path(package, tail)
    else:
        folders = list(installed(package, ""))
        if package == PACKAGE and parts[:1] == ["configs"]:
            folders = [*(root.parent for root in roots if root.name == "configs"), *folders]
    for folder in folders:
        found = Path(os.path.normpath(folder / f"{tail}.py"))
        if package and _is_file(found):
            return found
    tried = f"there is no {folders[0] / tail}.py" if dots else f"and {short(package)} is not among what is installed"
    raise Refused(f"it inherits from '{short(module)}', {tried}", "" if dots else _give(package))


def installed(package: str, below: str) -> Iterator[Path]:
    """The folders of an installed package, which is looked up and not imported."""
    if not re.fullmatch(r"[A-Za-z_]\w*", package):
        return
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return
    for location in (found and found.submodule_search_locations) or ():
        if (folder := Path(location, below)).is_dir():
            yield folder


def _give(package: str) -> str:
    return _GIVE if package == PACKAGE else f"Only installed packages have configs, and {short(package)} has none here."


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, for example
        return False


def _near(path: Path) -> str:
    """The nearest name of a config in the same folder."""
    try:
        return near(path.name, sorted(each.name for each in path.parent.glob("*.*")))
    except (OSError, ValueError):
        return ""
