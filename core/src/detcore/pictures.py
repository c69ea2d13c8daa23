"""Objects drawn on images: one, or a sheet of what is annotated beside what was found."""

from __future__ import annotations

import functools
import math
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detcore.colors import color
from detcore.data import sample_problem, seeded
from detcore.errors import DataError, UserError, one_line
from detcore.files import replacing
from detcore.interfaces import Dataset
from detcore.masks import paste
from detcore.structures import Detections, clip_boxes

Region = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of a picture."""

LEAST, MOST = 1000, 1600
"""Pixels of a picture's longer side: smaller images are enlarged, so that labels can be read, larger ones reduced."""
SHEET = 2400
"""The most pixels of a sheet's side, captions aside."""
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def draw(
    image: Tensor,
    found: Detections | Mapping[str, Any],
    classes: Sequence[str],
    *,
    threshold: float = 0.0,
    side: int | None = None,
) -> Image.Image:
    """An image with its objects: a box, the class and, where there is one, the mask of each; crowds are hatched.

    Detections have edges and labels in the colour of their class, ground truth has white ones.

    Args:
        image: (3, H, W) uint8, RGB.
        found: Detections, or a dataset's target; boxes in pixels of the image.
        classes: Names by label.
        threshold: The score that a detection must reach.
        side: Pixels of the picture's longer side; None is the image's own, but 1000 to 1600.
    """
    longest = max(image.shape[-2:])
    scale = (side or min(max(longest, LEAST), MOST)) / longest
    height, width = (max(1, round(each * scale)) for each in image.shape[-2:])
    picture = F.to_pil_image(image.cpu()).resize((width, height), Image.Resampling.LANCZOS)
    fields = found if isinstance(found, Mapping) else attrs.asdict(found, recurse=False)
    objects = _objects(fields, threshold, scale, (height, width))
    picture = _tinted(picture, objects)
    pen = _Pen(ImageDraw.Draw(picture), max(width, height), "scores" not in fields)
    for each in objects:
        pen.outline(each)
    for each in objects:
        pen.tag(each, classes)
    return picture


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Letters of ``size`` pixels, beyond those of English too (Pillow's own font has no others)."""
    import matplotlib as mpl  # noqa: PLC0415  # only where something is drawn

    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def fitted(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """As much of a text, in one line, as ``width`` pixels hold."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    too_many = bisect(range(len(text)), width, key=lambda letters: font.getlength(f"{text[:letters]}…"))
    return f"{text[: max(0, too_many - 1)]}…"


# ------------------------------------------------------------------------------------------------------- one object


@attrs.frozen(eq=False)
class _Object:
    """What is drawn, in pixels of the picture, to which the box is clipped; ``mask`` makes a bitmap of a region."""

    box: Sequence[float]
    label: int
    score: float | None
    crowd: bool
    mask: Callable[[Region], Any] | None


def _objects(found: Mapping[str, Any], threshold: float, scale: float, size: tuple[int, int]) -> list[_Object]:
    """Large ones first, so that small ones are drawn over them."""
    boxes = found.get("boxes", torch.zeros(0, 4)).as_subclass(Tensor).detach().float().cpu() * scale
    clipped = clip_boxes(boxes, boxes.new_tensor(size))
    scores, crowd = found.get("scores"), found.get("iscrowd", torch.zeros(len(boxes)))
    shown = boxes.isfinite().all(1) & (True if scores is None else scores.cpu() >= threshold)
    has_mask = found.get("masks") is not None or "polygons" in found
    return [
        _Object(
            box=clipped[row].tolist(),
            label=int(found["labels"][row]),
            score=None if scores is None else float(scores[row]),
            crowd=bool(crowd[row]),
            mask=functools.partial(_mask, found, row, scale) if has_mask else None,
        )
        for row in (clipped[:, 2:] - clipped[:, :2]).prod(1).argsort(descending=True, stable=True).tolist()
        if shown[row]
    ]


def _mask(found: Mapping[str, Any], row: int, scale: float, region: Region) -> Any:
    """The part of an object's mask in a region of the picture, as a bitmap (h, w) bool."""
    left, top, right, bottom = region
    if "polygons" not in found:  # a mask fills its object's box where it is a detection's, else the image
        mask = found["masks"][row].as_subclass(Tensor).detach().float().cpu()
        box = found["boxes"][row].tolist() if "scores" in found else [0, 0, *mask.T.shape]
        inside = torch.tensor(box) * scale - torch.tensor([left, top, left, top])
        return paste(mask, inside, (bottom - top, right - left)).numpy()
    bitmap = Image.new("L", (right - left, bottom - top))
    points = (found["polygons"].as_subclass(Tensor) * scale - torch.tensor([left, top])).tolist()
    for number in (found["owner"] == row).nonzero().flatten().tolist():
        begin, end = found["offsets"][number : number + 2].tolist()
        ImageDraw.Draw(bitmap).polygon([*map(tuple, points[begin:end])], fill=1)
    return np.asarray(bitmap) > 0


def _tinted(picture: Image.Image, objects: Sequence[_Object]) -> Image.Image:
    """With every mask in its colour; the boxes of crowds are hatched."""
    pixels = np.array(picture)
    rows, columns = np.ogrid[: picture.height, : picture.width]
    stripes = (rows + columns) // max(3, max(picture.size) // 120) % 3 == 0
    for each in objects:
        left, top, right, bottom = *map(math.floor, each.box[:2]), *map(math.ceil, each.box[2:])
        part = np.s_[top:bottom, left:right]
        if not stripes[part].size or not (each.crowd or each.mask):
            continue
        mask = stripes[part] if each.crowd or not each.mask else each.mask((left, top, right, bottom))
        inner = Image.fromarray(mask).convert("L").filter(ImageFilter.MinFilter(3))
        tone = np.array(color(each.label))
        pixels[part][mask] = 0.65 * pixels[part][mask] + 0.35 * tone
        pixels[part][mask & (np.asarray(inner) == 0)] = tone
    return Image.fromarray(pixels)


@attrs.frozen(eq=False)
class _Pen:
    """Draws boxes and labels on a picture whose longer side has ``side`` pixels, for ground truth lighter ones."""

    canvas: ImageDraw.ImageDraw
    side: int
    light: bool
    taken: list[Region] = attrs.field(factory=list)
    """The boxes of all labels so far."""

    def outline(self, each: _Object) -> None:
        """A box in its colour within a thin edge, at least one pixel large; thinner where it is small."""
        left, top, right, bottom = map(round, each.box)
        right, bottom = max(left, right - 1), max(top, bottom - 1)
        line = max(1, min(max(2, self.side // 320), min(right - left, bottom - top) // 5))
        red, green, blue = tone = color(each.label)
        edge = WHITE if self.light else (red // 3, green // 3, blue // 3)
        self.canvas.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=edge)
        self.canvas.rectangle((left, top, right, bottom), outline=tone, width=line)

    def tag(self, each: _Object, classes: Sequence[str]) -> None:
        """A label beside its box, inside the picture, over as little of other labels as can be."""
        text = font(max(9, round(6 + self.side / 110)))
        pad = 1 + int(text.size) // 8
        name = classes[each.label] if 0 <= each.label < len(classes) else f"class {each.label}"
        words = fitted(name, text, self.canvas.im.size[0] / 3) + ("" if each.score is None else f" {each.score:.2f}")
        size = round(text.getlength(words)) + 2 * pad, sum(text.getmetrics()) + pad
        box = min(self._places(each.box, size), key=lambda place: sum(_overlap(place, other) for other in self.taken))
        tone = color(each.label)
        fill = WHITE if self.light else tone
        self.canvas.rectangle(box, fill=fill, outline=tone)
        dark = 0.3 * fill[0] + 0.59 * fill[1] + 0.11 * fill[2] < 140
        self.canvas.text((box[0] + pad, box[1] + pad // 2), words, font=text, fill=WHITE if dark else BLACK)
        self.taken.append(box)

    def _places(self, box: Sequence[float], size: tuple[int, int]) -> Iterator[Region]:
        """Where a label may be, best first: above its box, below, beside, within; moved into the picture."""
        (left, top, right, bottom), (width, height) = box, size
        around = [(x, y) for y in (top - height, bottom) for x in (left, right - width)]
        most = self.canvas.im.size[0] - width, self.canvas.im.size[1] - height
        for spot in (*around, (right, top), (left - width, top), (left, top), (left, bottom - height)):
            x, y = (max(0, min(round(at), limit)) for at, limit in zip(spot, most, strict=True))
            yield x, y, x + width - 1, y + height - 1


def _overlap(one: Region, other: Region) -> int:
    width, height = (min(one[at + 2], other[at + 2]) - max(one[at], other[at]) for at in (0, 1))
    return max(0, width) * max(0, height)


# -------------------------------------------------------------------------------------------------------- of a run


def samples_sheet(dataset: Dataset, found: Mapping[int, Detections], path: Path, *, threshold: float = 0.3) -> None:
    """Images side by side as they are annotated and as they were found, written to ``path`` at once or not at all.

    Args:
        dataset: The images are read from it again.
        found: Detections in original pixels, by index into the dataset; of one image at least.
        path: A PNG.
        threshold: The score that a detection must reach.

    Raises:
        DataError: An image cannot be read again.
        OSError: The file cannot be written.
    """
    side, columns = max(
        (min(SHEET // (2 * each), SHEET // -(-len(found) // each)), each) for each in range(1, len(found) + 1)
    )
    side = max(40, min(side - 40, 640))
    text = font(max(12, side // 40))
    cells = [_cell(dataset, index, each, threshold, side) for index, each in found.items()]
    gap, above = int(text.size), 2 * int(text.size) + sum(text.getmetrics())
    width = max(cell.width for cell in cells) + gap
    rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
    tops = [*accumulate((max(cell.height for cell in row) + gap for row in rows), initial=above)]
    sheet = Image.new("RGB", (columns * width + gap, tops[-1]), WHITE)
    title = fitted(f"left: ground truth, right: detections that score at least {threshold:g}", text, width)
    ImageDraw.Draw(sheet).text((gap, gap), title, font=text, fill=BLACK)
    for row, top in zip(rows, tops, strict=False):
        for column, cell in enumerate(row):
            sheet.paste(cell, (gap + column * width, top))
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def _cell(dataset: Dataset, index: int, found: Detections, threshold: float, side: int) -> Image.Image:
    """The two pictures of an image, each with a caption above."""
    image, target = _read(dataset, index)
    left = draw(image, target, dataset.classes, side=side)
    right = draw(image, found, dataset.classes, threshold=threshold, side=side)
    text = font(max(12, side // 40))
    top, second = sum(text.getmetrics()) + 4, left.width + int(text.size) // 2
    objects = f"image {target.get('image_id', index)}, objects: {len(target.get('boxes', ()))}"
    detections = f"detections: {int((found.scores >= threshold).sum())} of {len(found)}"
    cell = Image.new("RGB", (second + right.width, top + left.height), WHITE)
    for x, picture, caption in ((0, left, objects), (second, right, detections)):
        ImageDraw.Draw(cell).text((x, 0), fitted(caption, text, left.width), font=text, fill=BLACK)
        cell.paste(picture, (x, top))
    return cell


def _read(dataset: Dataset, index: int) -> tuple[Tensor, dict[str, Any]]:
    """A sample as validation read it, with the same random numbers."""
    try:
        with seeded(0, 0, index):
            image, target = dataset[index]
            image = image if isinstance(image, Tensor) else F.to_image(image)
    except UserError:
        raise
    except Exception as error:  # a dataset may raise anything
        raise DataError(f"image {index}", one_line(error)) from error
    problem = sample_problem(image, target, len(dataset.classes))
    if problem:
        raise DataError(f"image {index}", problem)
    return image, target
