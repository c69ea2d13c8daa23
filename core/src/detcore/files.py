"""Files that are written at once or not at all, and where those go that are kept from run to run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from detcore.errors import TrainingError

CACHE = "DETCORE_CACHE"
"""Names a folder to keep what is fetched or computed in, instead of the user's cache."""


def cache_folder(name: str) -> Path:
    """Where what is called so is kept from run to run; it may not exist yet."""
    told = os.environ.get(CACHE)
    return (Path(told) if told else platformdirs.user_cache_path("detcore")) / name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to be written, which then takes its place; an error leaves what was there before.

    Raises:
        OSError: The system does not let it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text at once or not at all.

    Raises:
        TrainingError: The system does not let it, or the disk is full.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TrainingError(str(path), f"cannot be written: {error.strerror}") from error
