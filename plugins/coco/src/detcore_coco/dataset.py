"""Images annotated in COCO's JSON, on flat arrays that workers share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from detcore.errors import DataError, did_you_mean
from detcore.images import read_sized_image
from detcore.interfaces import ClassNames
from detcore.report import Flaw, settle, summarize
from torch import Tensor
from torchvision import tv_tensors

from detcore_coco.checks import (
    ROUNDING,
    Bools,
    Ints,
    Table,
    annotation_findings,
    image_findings,
    outline_findings,
    tabulate,
)
from detcore_coco.outlines import Outlines, flatten
from detcore_coco.reading import CategoryRow, CocoFile, ImageRow, OutlinedFile, OutlinedRow, read

Content = CocoFile | OutlinedFile

log = logging.getLogger("detcore.data")


class CocoDataset:
    """A COCO instances file and a folder of images.

    ``dataset[i]`` is ``(tv_tensors.Image uint8 (3, H, W), target)``; the target has ``boxes`` (G, 4) XYXY float32,
    ``labels`` (G,) int64 from 0, ``image_id`` (COCO's own), ``iscrowd`` (G,) int64, ``area`` (G,) float32. With
    ``segmentation="polygons"`` also ``polygons``, a ``tv_tensors.KeyPoints`` (K, 2) of all outlines' points, with
    ``offsets`` (M + 1,) where each outline begins and ``owner`` (M,) the row it belongs to; crowds have none. With
    ``segmentation="masks"`` a ``tv_tensors.Mask`` (G, H, W) uint8.

    What is wrong with entries, or missing, is found here; what is wrong with an image, when it is read. Boxes that
    stand out over the image by up to a pixel, as rounded ones do, count as sound.

    Args:
        annotations: The JSON file.
        images: The folder that the file's ``file_name`` start from.
        classes: Names of categories in the order of their labels, when not all or not in the file's order; what is
            annotated with other categories is left out.
        segmentation: Whether outlines or masks are read.
        invalid: What to do about flaws: ``"fail"`` raises at the first; ``"skip"`` drops boxes and images (clips boxes
            that are partly outside; gives a black image without objects for one that cannot be decoded) and notes it
            in ``report``.
        keep_empty: Whether images without an object (crowds do not count) are kept.
        exif: Whether images are turned as their EXIF orientation says; COCO's are not.

    Attributes:
        classes: Names by label.
        category_ids: COCO's own id by label.
        image_ids: (I,) COCO's own id by index.
        report: The flaws that were skipped so far (in this process: a worker's are in its own and in the log).

    Raises:
        DataError: The file cannot be read or is not COCO's; a class has no category; nothing is left; any flaw
            where ``invalid`` is ``"fail"``.
    """

    def __init__(
        self,
        *,
        annotations: str,
        images: str,
        classes: ClassNames | None = None,
        segmentation: Literal["none", "polygons", "masks"] = "none",
        invalid: Literal["fail", "skip"] = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        self.file = Path(annotations)
        self.folder = Path(images)
        self.segmentation = segmentation
        self.invalid = invalid
        self.exif = exif
        self.report: list[Flaw] = []
        plain = segmentation == "none"
        content: Content = read(self.file, CocoFile) if plain else read(self.file, OutlinedFile)
        chosen = _choose(self.file, content.categories, classes)
        self.classes: Sequence[str] = tuple(category.name for category in chosen)
        self.category_ids: Sequence[int] = tuple(category.id for category in chosen)
        if not content.images:
            raise DataError(f"{self.file}: images", "the file lists none", "Is it the right file?")
        kept_images = self._check_images(content.images)
        table = tabulate(content.annotations, content.images, content.categories)
        kept = self._check_annotations(table)
        for kind, count in summarize(self.report).items():
            log.warning("%s: %d x %s", self.file, count, kind)
        self._take(content, table, kept_images, kept, keep_empty)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, dict[str, Any]]:
        target = self.annotations(index)
        try:
            path = self.folder / str(self._names[index])
            return tv_tensors.Image(read_sized_image(path, self.size(index), self.exif)), target
        except DataError as error:
            if self.invalid == "fail":
                raise
            flaw = Flaw(error.where, error.found, "blackened", "unreadable image")
        log.warning("%s", flaw)
        self.report.append(flaw)
        black = torch.zeros(3, *self.size(index), dtype=torch.uint8)
        return tv_tensors.Image(black), {**self._target(index, np.arange(0)), "dropped": len(target["labels"])}

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, as the file says."""
        width, height = self._sizes[index].tolist()
        return height, width

    def annotations(self, index: int) -> dict[str, Any]:
        """The target of an image without reading the image."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self._target(index, self._rows(index))

    def coco(self, index: int) -> list[dict[str, Any]]:
        """The annotations of an image as COCO's JSON has them, in double precision; outlines where they were read."""
        outlines = self._outlines
        return [
            {
                "id": int(self._ids[row]),
                "image_id": int(self.image_ids[index]),
                "category_id": self.category_ids[self._labels[row]],
                "bbox": self._boxes[row].tolist(),
                "area": float(self._areas[row]),
                "iscrowd": int(self._crowd[row]),
                **({} if outlines is None else {"segmentation": outlines.coco(row, self.size(index))}),
            }
            for row in self._rows(index).tolist()
        ]

    def _rows(self, index: int) -> Ints:
        return np.arange(*self._offsets[index : index + 2])

    def _target(self, index: int, rows: Ints) -> dict[str, Any]:
        size, corner = self.size(index), self._boxes[rows, :2]
        boxes = np.concatenate([corner, corner + self._boxes[rows, 2:]], 1).astype(np.float32)
        return {
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(boxes), format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size
            ),
            "labels": torch.from_numpy(self._labels[rows]),
            "image_id": int(self.image_ids[index]),
            "iscrowd": torch.from_numpy(self._crowd[rows].astype(np.int64)),
            "area": torch.from_numpy(self._areas[rows].astype(np.float32)),
            **self._segments(rows.tolist(), size),
        }

    def _segments(self, rows: Sequence[int], size: tuple[int, int]) -> dict[str, Tensor]:
        if self._outlines is None:
            return {}
        if self.segmentation == "masks":
            masks = [torch.from_numpy(self._outlines.bitmap(row, size)) for row in rows]
            return {"masks": tv_tensors.Mask(torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.uint8))}
        outlines = [(owner, points) for owner, row in enumerate(rows) for points in self._outlines.polygons(row)]
        points = np.concatenate([np.zeros((0, 2)), *(points for _, points in outlines)]).astype(np.float32)
        return {
            "polygons": tv_tensors.KeyPoints(torch.from_numpy(points), canvas_size=size),
            "offsets": torch.tensor([0, *(len(points) for _, points in outlines)]).cumsum(0),
            "owner": torch.tensor([owner for owner, _ in outlines], dtype=torch.int64),
        }

    # ------------------------------------------------------------------------------------------------ construction

    def _check_images(self, images: Sequence[ImageRow]) -> Bools:
        """Which images stay."""
        if not self.folder.is_dir():
            raise DataError(str(self.folder), "there is no such folder of images", "Check the path.")
        return settle(
            image_findings(images, self.folder),
            lambda row: f"{self.file}: image {images[row].id} ({images[row].file_name})",
            len(images),
            self.invalid == "skip",
            self.report,
        )

    def _check_annotations(self, table: Table) -> Bools:
        """Which annotations stay."""

        def where(row: int) -> str:
            return f"{self.file}: annotation {table.rows[row].id} (image {table.rows[row].image_id})"

        skip = self.invalid == "skip"
        stay = settle(annotation_findings(table), where, len(table.rows), skip, self.report)
        if self.segmentation == "none":
            return stay
        sound = np.flatnonzero(stay)
        rows = [cast(OutlinedRow, table.rows[row]) for row in sound.tolist()]
        findings = outline_findings(rows, table.sizes[sound], self.segmentation == "polygons")
        stay[sound] = settle(findings, lambda row: where(int(sound[row])), len(rows), skip, self.report)
        return stay

    def _take(self, content: Content, table: Table, kept_images: Bools, kept: Bools, empty: bool) -> None:
        """Keep what is sound and of the chosen classes, sorted by image, in arrays."""
        label_of = np.full(len(content.categories), -1)
        row_of = {category.id: row for row, category in enumerate(content.categories)}
        label_of[[row_of[id_] for id_ in self.category_ids]] = np.arange(len(self.category_ids))
        kept &= kept_images[table.image] & (label_of[table.label] >= 0)
        crowd = np.array([bool(row.iscrowd) for row in table.rows], np.bool_)
        if not empty:
            kept_images &= np.bincount(table.image[kept & ~crowd], minlength=len(content.images)) > 0
            kept &= kept_images[table.image]
        images = [image for image, stays in zip(content.images, kept_images, strict=True) if stays]
        if not images:
            why = "All had flaws: see the log." if empty else "Set keep_empty = true to have images without objects."
            raise DataError(str(self.file), f"no image is left of {len(content.images)}", why)
        order = np.flatnonzero(kept)
        order = order[np.argsort(table.image[order], kind="stable")]
        rows = [table.rows[row] for row in order.tolist()]
        self.image_ids = np.array([image.id for image in images], np.int64)
        self._names = np.array([image.file_name for image in images])
        self._sizes = np.array([(image.width, image.height) for image in images])
        counts = np.bincount(table.image[order], minlength=len(content.images))[kept_images]
        self._offsets = np.concatenate([[0], counts.cumsum()])
        outside = table.boxes[order, 2:] - table.clipped[order, 2:]
        self._boxes = np.where((outside > ROUNDING).any(1, keepdims=True), table.clipped[order], table.boxes[order])
        self._labels = label_of[table.label[order]]
        self._crowd = crowd[order]
        self._ids = np.array([row.id for row in rows], np.int64)
        areas = [row.bbox[2] * row.bbox[3] if row.area is None else row.area for row in rows]
        self._areas = np.array(areas, np.float64)
        self._outlines: Outlines | None = None
        if self.segmentation != "none":
            self._outlines = flatten([cast(OutlinedRow, row).segmentation for row in rows])


def _choose(file: Path, categories: Sequence[CategoryRow], classes: Sequence[str] | None) -> list[CategoryRow]:
    """The categories by label."""
    by_name = {category.name: category for category in categories}
    for attribute in ("id", "name"):
        values = [getattr(category, attribute) for category in categories]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            found = f'two have the {attribute} "{twice}"'
            raise DataError(f"{file}: categories", found, f"Give each its own {attribute}.")
    if not categories:
        raise DataError(f"{file}: categories", "there are none", "Add id and name of each class.")
    for name in (categories and classes) or ():
        if name not in by_name:
            near = did_you_mean(name, by_name) or f"It has {', '.join(by_name)}."
            raise DataError(str(file), f'no category is called "{name}", which the config lists in classes', near)
    if classes is None:
        return [*categories]
    if not classes or len(set(classes)) < len(classes):
        raise DataError(str(file), f"classes = {list(classes)}", "Name at least one class, and each once.")
    return [by_name[name] for name in classes]
