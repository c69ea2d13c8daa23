"""Image files to tensors."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from detcore.errors import DataError


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


def read_sized_image(path: Path, size: tuple[int, int], exif: bool = False) -> Tensor:
    """The same, of an image that its annotations say to be of ``size`` (height, width).

    Raises:
        DataError: It is of another size; or as above.
    """
    image = read_image(path, exif)
    (height, width), found = size, image.shape[-2:]
    if found != (height, width):
        fix = "Is it turned by EXIF? Set exif = true." if found == (width, height) else "Mend either of them."
        sizes = f"the image is {found[1]} x {found[0]} (width x height), its annotations are for {width} x {height}"
        raise DataError(str(path), sizes, fix)
    return image


def _decode(file: BinaryIO, path: Path, exif: bool) -> Tensor:
    try:
        image: Image.Image = Image.open(file)
        image.load()
    except UnidentifiedImageError as error:
        raise DataError(str(path), "not an image, or of an unknown format", "Replace the file.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(str(path), f"not a sound image: {error}", "Replace the file.") from error
    return from_pillow(ImageOps.exif_transpose(image) if exif else image)


def from_pillow(image: Image.Image) -> Tensor:
    """A picture of any mode as (3, H, W) uint8, RGB."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)  # as decoded: resized faster
