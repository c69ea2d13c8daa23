"""Images annotated in COCO's JSON, on flat arrays that workers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
import torch
from detcore.errors import DataError
from detcore.interfaces import ClassNames
from detcore.report import Finding, Flaw, settle, summarize
from detcore_records.files import file_finding
from detcore_records.samples import Bools, ImageFiles, Ints, Invalid, choose, count_objects, log, polygons_of, target_of
from torch import Tensor
from torchvision import tv_tensors

from detcore_coco.index import COCO, Dialect, coco_index, findings
from detcore_coco.outlines import Outlines


class CocoDataset(ImageFiles):
    """A COCO instances file and a folder of images.

    ``dataset[i]`` is ``(tv_tensors.Image uint8 (3, H, W), target)``; the target has ``boxes`` (G, 4) XYXY float32,
    ``labels`` (G,) int64 from 0, ``image_id`` (COCO's own), ``iscrowd`` (G,) int64, ``area`` (G,) float32. With
    ``segmentation="polygons"`` also ``polygons``, :class:`detcore.polygons.PolygonPoints` (K, 2) of all outlines, with
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

    DIALECT: ClassVar[Dialect] = COCO
    """What a class on this one reads that is not quite COCO's."""

    def __init__(
        self,
        *,
        annotations: str,
        images: str,
        classes: ClassNames | None = None,
        segmentation: Literal["none", "polygons", "masks"] = "none",
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        self.file = Path(annotations)
        self.folder = Path(images)
        self.segmentation = segmentation
        self.invalid = invalid
        self.exif = exif
        self.report: list[Flaw] = []
        self._index = coco_index(self.file, segmentation != "none", self.DIALECT)
        chosen = _choose(self.file, self._index.meta["categories"], classes)
        self.category_ids: Sequence[int] = tuple(id_ for id_, _ in chosen)
        self.classes: Sequence[str] = tuple(name for _, name in chosen)
        categories, used = self._index.meta["categories"], np.bincount(self._index["categories"] + 1)[1:]
        self.annotated_classes = {categories[row][1]: categories[row][0] for row in np.flatnonzero(used).tolist()}
        if not len(self._index["image_ids"]):
            raise DataError(f"{self.file}: images", "the file lists none", "Is it the right file?")
        kept_images = self._check_images()
        kept = self._check_annotations()
        for kind, count in summarize(self.report).items():
            log.warning("%s: %d x %s", self.file, count, kind)
        self._take(kept_images, kept, keep_empty)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.folder / self._name(self._images[index])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, as the file says."""
        width, height = self._index["image_sizes"][self._images[index]].tolist()
        return height, width

    def coco(self, index: int) -> list[dict[str, Any]]:
        """The annotations of an image as COCO's JSON has them, in double precision; outlines where they were read."""
        arrays, outlines = self._index, self._outlines
        return [
            {
                "id": int(arrays["ids"][row]),
                "image_id": int(self.image_ids[index]),
                "category_id": self.category_ids[self._label_of[arrays["categories"][row]]],
                "bbox": arrays["boxes"][row].tolist(),
                "area": float(arrays["areas"][row]),
                "iscrowd": int(arrays["crowd"][row]),
                **({} if outlines is None else {"segmentation": outlines.coco(row, self.size(index))}),
            }
            for row in self.rows(index).tolist()
        ]

    def _name(self, row: int) -> str:
        ends = self._index["name_ends"]
        return self._index["names"][ends[row] : ends[row + 1]].tobytes().decode()

    def rows(self, index: int) -> Ints:
        """(G,) the rows of an image's objects."""
        image = self._images[index]
        rows: Ints = self._index["order"][slice(*self._index["offsets"][image : image + 2])]
        return rows[self._kept[rows]]

    @property
    def _outlines(self) -> Outlines | None:
        return None if self.segmentation == "none" else Outlines.of(self._index)

    def target(self, index: int, rows: Ints) -> dict[str, Any]:
        """The target of an image with these rows of its objects."""
        size, arrays = self.size(index), self._index
        boxes = arrays["boxes"][rows]
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        labels = self._label_of[arrays["categories"][rows]]
        id_ = int(self.image_ids[index])
        target = target_of(boxes, labels, id_, arrays["crowd"][rows], arrays["areas"][rows], size)
        return {**target, **self._segments(rows.tolist(), size)}

    def _segments(self, rows: Sequence[int], size: tuple[int, int]) -> Mapping[str, Tensor]:
        found = self._outlines
        if found is None:
            return {}
        if self.segmentation == "masks":
            masks = [torch.from_numpy(found.bitmap(row, size)) for row in rows]
            return {"masks": tv_tensors.Mask(torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.uint8))}
        return polygons_of([found.polygons(row) for row in rows], size)

    # ------------------------------------------------------------------------------------------------ construction

    def _check_images(self) -> Bools:
        """(I,) which images stay."""
        if not self.folder.is_dir():
            raise DataError(str(self.folder), "there is no such folder of images", "Check the path.")
        ids, ends, text = self._index["image_ids"], self._index["name_ends"].tolist(), self._index["names"].tobytes()
        names = [text[begin:end].decode() for begin, end in pairwise(ends)]
        return settle(
            [*findings(self._index, "images"), file_finding(self.folder, names)],
            lambda row: f"{self.file}: image {ids[row]} ({names[row]})",
            len(ids),
            self.invalid == "skip",
            self.report,
        )

    def _check_annotations(self) -> Bools:
        """(A,) which annotations stay."""
        ids, refs = self._index["ids"], self._index["image_refs"]

        def where(row: int) -> str:
            return f"{self.file}: annotation {ids[row]} (image {refs[row]})"

        skip = self.invalid == "skip"
        stay = settle(findings(self._index, "annotations"), where, len(ids), skip, self.report)
        if self.segmentation == "none":
            return stay
        found = [*findings(self._index, "outlines")]
        if self.segmentation == "polygons":
            found.append(self._without_outline())
        found = [attrs.evolve(each, rows=each.rows[stay[each.rows]]) for each in found]
        return stay & settle(found, where, len(ids), skip, self.report)

    def _without_outline(self) -> Finding:
        masked = np.flatnonzero((np.diff(self._index["masks"]) > 0) & ~self._index["crowd"])
        what = 'the object has a mask and no outline (segmentation = "masks" reads both)'
        return Finding("unusable outline", masked, lambda row: what)

    def _take(self, kept_images: Bools, kept: Bools, empty: bool) -> None:
        """Keep what is sound and of the chosen classes: rows of the index."""
        arrays = self._index
        row_of = {id_: row for row, (id_, _) in enumerate(arrays.meta["categories"])}
        self._label_of = np.full(len(row_of), -1)
        self._label_of[[row_of[id_] for id_ in self.category_ids]] = np.arange(len(self.category_ids))
        self._kept = kept & kept_images[arrays["images"]] & (self._label_of[arrays["categories"]] >= 0)
        if not empty:
            objects = arrays["images"][self._kept & ~arrays["crowd"]]
            kept_images &= np.bincount(objects, minlength=len(kept_images)) > 0
        self._images = np.flatnonzero(kept_images)
        used = self._kept & kept_images[arrays["images"]]
        self.object_counts = count_objects(np.ones_like(kept), kept, used)
        if not len(self._images):
            why = "All had flaws: see the log." if empty else "Set keep_empty = true to have images without objects."
            raise DataError(str(self.file), f"no image is left of {len(kept_images)}", why)
        self.image_ids = arrays["image_ids"][self._images]


def _choose(
    file: Path, categories: Sequence[tuple[int, str]], classes: Sequence[str] | None
) -> Sequence[tuple[int, str]]:
    """The categories, id and name, by label."""
    for place, attribute in enumerate(("id", "name")):
        values = [category[place] for category in categories]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            found = f'two have the {attribute} "{twice}"'
            raise DataError(f"{file}: categories", found, f"Give each its own {attribute}.")
    if not categories:
        raise DataError(f"{file}: categories", "there are none", "Add id and name of each class.")
    if classes is None:
        return categories
    numbers = {name: id_ for id_, name in categories}
    return [(numbers[name], name) for name in choose(str(file), numbers, classes, "category")]
