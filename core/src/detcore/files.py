"""Files that are written at once or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detcore.errors import TrainingError


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
