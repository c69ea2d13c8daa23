"""Image files to tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from detcore.errors import DataError
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor


def read_image(path: Path, exif: bool = False) -> Tensor:
    """The image as (3, H, W) uint8, RGB; grey is tripled, transparency left out, the first of several frames taken.

    Pillow decodes: torchvision is about to drop its decoders.

    Args:
        path: A file of any format that Pillow reads.
        exif: Whether to turn it as its EXIF orientation says.

    Raises:
        DataError: The file is missing, cut off, or no image.
    """
    try:
        with path.open("rb") as file:
            return _decode(file, path, exif)
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}", "Check the file.") from error


def _decode(file: BinaryIO, path: Path, exif: bool) -> Tensor:
    try:
        image: Image.Image = Image.open(file)
        image.load()
    except UnidentifiedImageError as error:
        raise DataError(str(path), "not an image, or of an unknown format", "Replace the file.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(str(path), f"not a sound image: {error}", "Replace the file.") from error
    if exif:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def missing(folder: Path, names: Sequence[str]) -> list[int]:
    """Which of the files ``names`` are not in ``folder``, as rows; asks once per folder, not once per file."""
    listings = {parent: _listing(folder / parent) for parent in {os.path.dirname(name) for name in names}}
    absent = (row for row, name in enumerate(names) if os.path.basename(name) not in listings[os.path.dirname(name)])
    return [row for row in absent if not (folder / names[row]).is_file()]  # a file system may ignore upper case


def _listing(folder: Path) -> set[str]:
    try:
        return {*os.listdir(folder)}
    except OSError:
        return set()
