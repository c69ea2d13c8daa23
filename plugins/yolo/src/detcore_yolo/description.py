"""A data set's description, its ``data.yaml``: where images are and what classes are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml
from detcore.errors import DataError, did_you_mean


@attrs.frozen
class Description:
    """What a ``data.yaml`` says of one split.

    Attributes:
        root: The folder that paths start from.
        places: Folders of images and texts that list images.
        names: Of the classes, by the number that labels have.
    """

    root: Path
    places: Sequence[Path]
    names: Mapping[int, str]


def read_description(file: Path, split: str, root: str | None) -> Description:
    """Read it.

    Args:
        file: The ``data.yaml``.
        split: Its key, ``train`` for example.
        root: Instead of its ``path``.

    Raises:
        DataError: It cannot be read, or does not say it; or a place of the split is not there.
    """
    content = _parse(file)
    own = content.get("path") or ""
    if not isinstance(own, str):
        raise DataError(f"{file}: path", f"{own!r} is no path", "It is a text.")
    folder = Path(root) if root else file.parent / own
    if split not in content:
        near = did_you_mean(split, map(str, content)) or f"It has {', '.join(map(str, content))}."
        raise DataError(f"{file}: {split}", "there is no such key, which the config names as split", near)
    given = content[split] if isinstance(content[split], list) else [content[split]]
    if not given or not all(isinstance(each, str) and each for each in given):
        raise DataError(f"{file}: {split}", f"{content[split]!r} is no path", "Name a folder, a list, or some of them.")
    return Description(folder, [_place(file, split, folder, each) for each in given], _names(file, content))


def _parse(file: Path) -> Mapping[Any, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(str(file), f"cannot be read: {error.strerror or error}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(str(file), "not YAML: not a text in UTF-8", "Is it the right file?") from error
    except yaml.YAMLError as error:
        raise DataError(str(file), f"not YAML: {' '.join(str(error).split())}", "Is it the right file?") from error
    except (ValueError, RecursionError) as error:
        raise DataError(str(file), f"not YAML that can be read: {error}", "Is it the right file?") from error
    if not isinstance(content, dict):
        raise DataError(str(file), "has no keys", "It has names, train, val.")
    return content


def _place(file: Path, split: str, root: Path, given: str) -> Path:
    """A folder or list; ``../train/images`` is one of the file's own folder where it is not there (Roboflow's)."""
    places = [root / given, *([root / given.removeprefix("../")] if given.startswith("../") else [])]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        fix = "Check path and the split, or set root in the config."
        raise DataError(f"{file}: {split}", f"there is no {places[0]}", fix)
    return found


def _names(file: Path, content: Mapping[Any, Any]) -> Mapping[int, str]:
    """By number, in the order of numbers."""
    given = content.get("names")
    pairs = [*enumerate(given)] if isinstance(given, list) else [*given.items()] if isinstance(given, dict) else []
    numbered = {int(key): str(name) for key, name in pairs if str(key).isdecimal()}
    where = f"{file}: names"
    if not numbered or len(numbered) < len(pairs):
        found = "there are none" if not given else f"not a list of names, nor names by number: {given!r}"
        raise DataError(where, found, "Name each class: [cat, dog], or {0: cat, 1: dog}.")
    names = [*numbered.values()]
    twice = next((name for name in names if names.count(name) > 1 or not name), None)
    if twice is not None:
        raise DataError(where, f'two are called "{twice}"' if twice else "one is empty", "Give each its own.")
    return dict(sorted(numbered.items()))
