from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detcore.errors import DataError
from detcore.images import read_image, read_sized_image
from PIL import Image

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8))


def test_pixels_are_the_files(tmp_path: Path) -> None:
    NOISE.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.permute(1, 2, 0).is_contiguous()  # pixel by pixel, as decoded: resized several times faster
    assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(np.array(NOISE)))


PNGS = [(mode, "PNG") for mode in ("L", "LA", "RGBA", "P", "I;16", "1")]


@pytest.mark.parametrize(("mode", "form"), [*PNGS, ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "WEBP"), ("P", "GIF")])
def test_every_kind_of_image_comes_as_rgb(tmp_path: Path, mode: str, form: str) -> None:
    image = Image.new("I;16", (40, 30), 65535) if mode == "I;16" else NOISE.convert(mode)
    image.save(tmp_path / "a", form)
    read = read_image(tmp_path / "a")
    assert read.shape == (3, 30, 40)
    assert read.dtype == torch.uint8
    if mode == "I;16":
        assert read.unique().tolist() == [255]


@pytest.mark.parametrize(
    ("form", "length", "reason"),
    [
        ("JPEG", 700, "not a sound image: image file is truncated"),
        ("JPEG", -2, "not a sound image: image file is truncated"),
        ("PNG", 700, "not a sound image: image file is truncated"),
        ("PNG", 20, "not a sound image: "),
        ("PNG", 0, "not an image, or of an unknown format. "),
    ],
)
def test_a_broken_image_is_named(tmp_path: Path, form: str, length: int, reason: str) -> None:
    path = tmp_path / "a"
    NOISE.save(path, form)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert str(caught.value).endswith("Replace the file.")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "a.png")
    assert str(caught.value) == f"{tmp_path / 'a.png'}: cannot be read: No such file or directory. Check the file."


def test_exif_orientation_is_followed_on_request_only(tmp_path: Path) -> None:
    turned = Image.new("RGB", (30, 40))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 40, 30)
    assert read_image(tmp_path / "a.jpg", exif=True).shape == (3, 30, 40)


@pytest.mark.parametrize(
    ("size", "fix"), [((30, 41), "Mend either of them."), ((40, 30), "Is it turned by EXIF? Set exif = true.")]
)
def test_an_image_of_another_size_than_announced_is_an_error(tmp_path: Path, size: tuple[int, int], fix: str) -> None:
    NOISE.save(tmp_path / "a.png")
    assert read_sized_image(tmp_path / "a.png", (30, 40)).shape == (3, 30, 40)
    with pytest.raises(DataError) as caught:
        read_sized_image(tmp_path / "a.png", size)
    sizes = f"the image is 40 x 30 (width x height), its annotations are for {size[1]} x {size[0]}"
    assert str(caught.value) == f"{tmp_path / 'a.png'}: {sizes}. {fix}"
