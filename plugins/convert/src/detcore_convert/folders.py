"""Where files are written, and what must not be in the way."""

from __future__ import annotations

from pathlib import Path

from detcore.errors import DataError


def check_output(output: Path, is_file: bool, force: bool) -> None:
    """What is there is not replaced unasked.

    Raises:
        DataError: There is something, or something of another kind.
    """
    if output.is_dir() if is_file else output.exists() and not output.is_dir():
        found, right = ("a folder", "a file") if is_file else ("a file", "a folder")
        raise DataError(str(output), f"is {found}", f"This format is {right}: name another --output.")
    there = output.exists() if is_file else output.is_dir() and any(output.iterdir())
    if there and not force:
        found = "is there already" if is_file else "has something in it already"
        raise DataError(str(output), found, "Name another --output, or give --force to replace its files.")


def link(path: Path, folder: Path) -> None:
    """A link to a folder of images.

    Raises:
        DataError: Something else is there, or the system does not let it.
    """
    wanted = folder.resolve()
    if path.is_symlink() and path.resolve() == wanted:
        return
    if path.is_symlink() or path.exists():
        raise DataError(str(path), f"is there already, and no link to {folder}", "Remove it, or name another --output.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(wanted, target_is_directory=True)
    except OSError as error:
        fix = "Give --no-link, and put the images there."
        raise DataError(str(path), f"cannot be linked to {folder}: {error.strerror}", fix) from error
