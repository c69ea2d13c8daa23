"""One sample: what its dataset says of it, and what its file says of itself."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from detcore.errors import UserError, one_line
from detcore.interfaces import Dataset
from detcore.report import Flaw
from PIL import Image

HUGE = 0.95
"""The share of an image from which on a box counts as almost all of it."""
ORIENTATION, UPRIGHT, TURNED = 0x0112, 1, (5, 6, 7, 8)
"""The EXIF tag, its value for images as they are, and those with which width is height (Exif 2.3, section 4.6.4)."""
PNG, DEPTH = b"\x89PNG\r\n\x1a\n", 24
"""How a PNG begins, and where its bit depth stands (PNG specification, section 11.2.2)."""
BITS = 258
"""TIFF's tag of the bits of each channel (TIFF 6.0, section 8)."""
GREY, WITH_ALPHA = ("1", "L", "LA", "La"), ("LA", "La", "PA", "RGBA", "RGBa")
UNREADABLE = "unreadable image"

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@attrs.frozen(eq=False)
class Look:
    """What was seen of a sample; small, so that it crosses process borders quickly.

    Attributes:
        where: ``image 139``.
        size: Width and height in pixels; 0 where nobody knows.
        boxes: (G, 4) XYXY, those that training gets.
        labels: (G,)
        crowd: (G,) bool.
        unread: Objects that it has not because its image cannot be read.
        flaws: What was found.
        digest: Of the bytes of its file; empty where there is none.
        annotation_ids: As the annotations have them, where they have any.
    """

    where: str
    size: tuple[int, int] = (0, 0)
    boxes: Floats = attrs.field(factory=lambda: np.zeros((0, 4), np.float32))
    labels: Ints = attrs.field(factory=lambda: np.zeros(0, np.int64))
    crowd: npt.NDArray[np.bool_] = attrs.field(factory=lambda: np.zeros(0, np.bool_))
    unread: int = 0
    flaws: Sequence[Flaw] = ()
    digest: str = ""
    annotation_ids: Sequence[int] = ()


def look(dataset: Dataset, index: int, prefix: str = "") -> Look:
    """Read a sample and its file; nothing that is wrong with them raises."""
    data = _bytes(dataset, index)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest() if data else ""
    report: list[Flaw] = getattr(dataset, "report", [])
    known = len(report)
    try:
        image, target = dataset[index]
    except Exception as error:  # whatever a dataset raises of a sample, the others are to be looked at
        return attrs.evolve(_failed(dataset, index, prefix, data, error), digest=digest)
    where = f"image {prefix}{target.get('image_id', index)}"
    width, height = _size(image)
    flaws = [_named(flaw, dataset, index, data) for flaw in report[known:]]
    boxes, labels, crowd = (_array(target, name) for name in ("boxes", "labels", "iscrowd"))
    crowd = crowd.astype(np.bool_) if len(crowd) == len(labels) else np.zeros(len(labels), np.bool_)
    found = Look(
        where=where,
        size=(width, height),
        boxes=boxes.reshape(-1, 4).astype(np.float32),
        labels=labels.astype(np.int64),
        crowd=crowd,
        unread=int(target.get("dropped", 0)),
        digest=digest,
        annotation_ids=_annotation_ids(dataset, index),
    )
    if any(flaw.action == "blackened" for flaw in flaws):
        return attrs.evolve(found, flaws=flaws)
    exif = bool(getattr(dataset, "exif", False))
    return attrs.evolve(found, flaws=[*flaws, *file_flaws(data, where, exif), *object_flaws(found)])


def file_flaws(data: bytes, where: str, exif: bool) -> Iterator[Flaw]:
    """What is lost, or only odd, when the image of a file becomes 3 x 8 bits; nothing where it is none.

    Args:
        data: The file.
        where: Which image.
        exif: Whether it is turned as it says.
    """
    image = _opened(data)
    if image is None:
        return
    orientation = _orientation(image)
    if orientation != UPRIGHT:
        done = "is followed" if exif else "is not followed: exif = false"
        yield Flaw(where, f"its orientation {orientation} {done}", "kept", "EXIF-rotated image")
    if image.mode == "CMYK":
        yield Flaw(where, "its colours are those of a printer, without a profile", "converted", "CMYK image")
    elif image.mode[0] in "IF" or _depth(image, data) > 8:
        yield Flaw(where, f"mode {image.mode}: only 8 bits of a value stay", "reduced", "16-bit image")
    elif image.mode in GREY:
        yield Flaw(where, f"mode {image.mode}: one channel is all three", "kept", "grey image")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        through = image.convert("RGBA").getchannel("A").getextrema()[0] != 255
        what = "what is transparent shows the colour behind it" if through else "it is transparent nowhere"
        yield Flaw(where, f"mode {image.mode}: {what}", "made opaque" if through else "kept", "image with alpha")


def object_flaws(found: Look) -> Iterator[Flaw]:
    """What is odd about the objects that training gets."""
    boxes, (width, height) = found.boxes, found.size
    sides = boxes[:, 2:] - boxes[:, :2]
    rows = np.concatenate([boxes, found.labels[:, None], found.crowd[:, None]], 1)
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    earlier = first[which.reshape(-1)]
    for row in np.flatnonzero(earlier != np.arange(len(rows))).tolist():
        what = f"object {earlier[row] + 1} has the same box and class"
        yield Flaw(f"{found.where}: object {row + 1}", what, "used twice", "object listed twice")
    for row in np.flatnonzero((sides.prod(1) >= HUGE * width * height) & ~found.crowd).tolist():
        what = f"the box {boxes[row].tolist()} is almost all of the image of {width} x {height}"
        yield Flaw(f"{found.where}: object {row + 1}", what, "kept", "huge box")
    for row in np.flatnonzero((sides < 1).any(1)).tolist():
        what = f"the box {boxes[row].tolist()} is less than a pixel wide or high"
        yield Flaw(f"{found.where}: object {row + 1}", what, "kept", "box thinner than a pixel")
    if not (~found.crowd).any():
        what = "it has only crowds" if len(boxes) else "it has none"
        yield Flaw(found.where, what, "kept", "image without objects")


def _bytes(dataset: Dataset, index: int) -> bytes:
    """The file of an image; nothing where the dataset has no method ``path``, or it cannot be read."""
    path = getattr(dataset, "path", None)
    try:
        return Path(path(index)).read_bytes() if callable(path) else b""
    except OSError:
        return b""


def _failed(dataset: Dataset, index: int, prefix: str, data: bytes, error: Exception) -> Look:
    """A sample that its dataset raises an error of, which a run would end with."""
    where = f"image {prefix}{_id(dataset, index)}"
    what = f"{error.where}: {error.found}" if isinstance(error, UserError) else one_line(error)
    flaw = _named(Flaw(where, what, "ends a run", UNREADABLE), dataset, index, data)
    return Look(where, flaws=[flaw], unread=_count(dataset, index))


def _id(dataset: Dataset, index: int) -> Any:
    ids = getattr(dataset, "image_ids", None)
    return index if ids is None else ids[index]


def _count(dataset: Dataset, index: int) -> int:
    """The objects of an image that cannot be read, as far as its dataset can say."""
    own = getattr(dataset, "annotations", None)
    try:
        return len(own(index)["labels"]) if callable(own) else 0
    except UserError:
        return 0


def _annotation_ids(dataset: Dataset, index: int) -> Sequence[int]:
    own = getattr(dataset, "coco", None)
    return [row["id"] for row in own(index)] if callable(own) else ()


def _named(flaw: Flaw, dataset: Dataset, index: int, data: bytes) -> Flaw:
    """A flaw of an image that cannot be read, called by its reason where the file tells it."""
    image, told = _opened(data), getattr(dataset, "size", None)
    if flaw.kind != UNREADABLE or image is None:
        return flaw
    turned = getattr(dataset, "exif", False) and _orientation(image) in TURNED
    if callable(told) and tuple(told(index)) != (image.size if turned else image.size[::-1]):
        return attrs.evolve(flaw, kind="wrongly sized image")
    return attrs.evolve(flaw, kind="truncated image") if "truncated" in flaw.what else flaw


def _opened(data: bytes) -> Image.Image | None:
    """An image of which only the head has been read; None where it is none."""
    try:
        return Image.open(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _depth(image: Image.Image, data: bytes) -> int:
    """Bits of a channel, as the head of a PNG or TIFF says; Pillow opens such of three channels as if they had 8."""
    bits = getattr(image, "tag_v2", {}).get(BITS, 8)
    return data[DEPTH] if data.startswith(PNG) else max(bits) if isinstance(bits, tuple) else bits


def _orientation(image: Image.Image) -> int:
    """As EXIF has it; upright where it says nothing, or nothing that can be read."""
    try:
        told = image.getexif().get(ORIENTATION, UPRIGHT)
    except (OSError, SyntaxError, ValueError):
        return UPRIGHT
    return told if told in range(1, 9) else UPRIGHT


def _size(image: Any) -> tuple[int, int]:
    """Width and height of a tensor (3, H, W), or of a Pillow image."""
    return image.size if isinstance(image, Image.Image) else tuple(image.shape[:-3:-1])


def _array(target: dict[str, Any], name: str) -> npt.NDArray[Any]:
    return np.asarray(target[name]) if name in target else np.zeros(0)
