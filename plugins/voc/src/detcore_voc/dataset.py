"""Images annotated in Pascal VOC's XML, on flat arrays that workers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from detcore.errors import DataError
from detcore.interfaces import ClassNames
from detcore.report import Flaw, settle, summarize
from detcore_records.samples import Bools, ImageFiles, Ints, Invalid, choose, log, target_of

from detcore_voc.checks import Table, file_findings, object_findings, size, tabulate
from detcore_voc.files import File, find, stems
from detcore_voc.reading import read_lines

Coordinates = Literal["pixels", "edges", "mmdetection"]

SHIFTS: Mapping[Coordinates, Sequence[float]] = {
    "pixels": (-1, -1, 0, 0),
    "edges": (0, 0, 0, 0),
    "mmdetection": (-1, -1, -1, -1),
}
"""What is added to xmin, ymin, xmax, ymax to have edges in pixels, the image's corner at 0."""


class VOCDataset(ImageFiles):
    """A folder in Pascal VOC's layout: an XML file for each image, and texts that list images.

    ``dataset[i]`` is ``(tv_tensors.Image uint8 (3, H, W), target)``; the target has ``boxes`` (G, 4) XYXY float32,
    ``labels`` (G,) int64 from 0, ``image_id`` (the file's name without suffix), ``iscrowd`` (G,) int64, ``area`` (G,)
    float32.

    What is wrong with files and objects is found here; what is wrong with an image, when it is read. Boxes that stand
    out over the image by up to a pixel, as rounded ones do, count as sound. Of what is only odd (an object that seems
    to be annotated twice, a ``filename`` that is another image's) it is noted in ``report`` and nothing is done. The
    image of ``a.xml`` is ``a.jpg``, ``a.png``, ...: ``filename`` decides only where there are several.

    Args:
        root: The folder that the following start from.
        split: A text with the name of an image per line, without suffix; None: all annotation files.
        annotations: The folder of XML files.
        images: The folder of images.
        classes: Names by label. None: all names in the folder of annotations, whatever the split, in the order of the
            alphabet.
        coordinates: What the files' numbers mean. ``"pixels"``: the first and last pixel of an object, counted from 1,
            as VOC defines them. ``"edges"``: edges as they are, counted from 0, as many tools write them.
            ``"mmdetection"``: 1 less each, which is what MMDetection does; objects lose a pixel.
        difficult: ``"ignore"``: such objects are marked ``iscrowd``, so that training and evaluation leave them out of
            account. ``"keep"``: they are objects like others.
        invalid: What to do about flaws: ``"fail"`` raises at the first; ``"skip"`` drops objects and images (clips
            boxes that are partly outside; gives a black image without objects for one that cannot be decoded) and
            notes it in ``report``.
        keep_empty: Whether images without an object (those marked ``iscrowd`` do not count) are kept.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        classes: Names by label.
        image_ids: (I,) file names without suffix, by index.
        sheets: The folder of XML files.
        report: The flaws that were noted so far (in this process: a worker's are in its own and in the log).

    Raises:
        DataError: A folder or text is missing or has nothing in it; nothing is left; any flaw where ``invalid`` is
            ``"fail"``.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str | None = None,
        annotations: str = "Annotations",
        images: str = "JPEGImages",
        classes: ClassNames | None = None,
        coordinates: Coordinates = "pixels",
        difficult: Literal["ignore", "keep"] = "ignore",
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        self.folder = Path(root, images)
        self.invalid = invalid
        self.exif = exif
        self.report: list[Flaw] = []
        sheets, text = Path(root, annotations), Path(root, split) if split else None
        self.sheets = sheets
        if not self.folder.is_dir():
            raise DataError(str(self.folder), "there is no such folder of images", "Check root and images.")
        every = _stems(sheets) if text is None or classes is None else []
        names = every if text is None else read_lines(text)
        files = {file.stem: file for file in find(sheets, self.folder, {*names, *every})}
        self.classes = _found(sheets, files.values()) if classes is None else choose(str(sheets), None, classes)
        kept = self._sound([files[name] for name in names])
        table = tabulate(kept, self.classes, SHIFTS[coordinates])
        sound = self._sound_objects(kept, table)
        for kind, count in summarize(self.report).items():
            log.warning("%s: %d x %s", text or sheets, count, kind)
        ignored = table.difficult & (difficult == "ignore")
        stay = keep_empty | (np.bincount(table.file[sound & ~ignored], minlength=len(kept)) > 0)
        annotated = sum(len(files[name].sheet.objects) for name in names)
        left_out = annotated - len(sound) + int((sound & ~stay[table.file]).sum())
        self.object_counts = {"annotated": annotated, "flawed": int((~sound).sum()), "left_out": left_out}
        if not stay.any():
            why = "Set keep_empty = true to have images without objects." if kept else "All had flaws: see the log."
            raise DataError(str(text or sheets), f"no image is left of {len(names)}", why)
        self._take(kept, table, stay, sound & stay[table.file], ignored)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.folder / str(self._names[index])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, as its file says."""
        width, height = self._sizes[index].tolist()
        return height, width

    def rows(self, index: int) -> Ints:
        """(G,) the rows of an image's objects."""
        return np.arange(*self._offsets[index : index + 2])

    def target(self, index: int, rows: Ints) -> dict[str, Any]:
        """The target of an image with these rows of its objects."""
        boxes = self._boxes[rows]
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        id_ = str(self.image_ids[index])
        return target_of(boxes, self._labels[rows], id_, self._ignored[rows], areas, self.size(index))

    # ------------------------------------------------------------------------------------------------ construction

    def _sound(self, files: Sequence[File]) -> list[File]:
        """The files that stay."""
        findings = file_findings(files, self.folder)
        stay = settle(findings, lambda row: str(files[row].path), len(files), self.invalid == "skip", self.report)
        return [file for file, stays in zip(files, stay, strict=True) if stays]

    def _sound_objects(self, files: Sequence[File], table: Table) -> Bools:
        """Which objects stay."""

        def where(row: int) -> str:
            return f"{files[table.file[row]].path}: object {table.number[row]}"

        return settle(object_findings(table), where, len(table.rows), self.invalid == "skip", self.report)

    def _take(self, files: Sequence[File], table: Table, stay: Bools, sound: Bools, ignored: Bools) -> None:
        """Keep these files and objects, in arrays."""
        left = [file for file, stays in zip(files, stay, strict=True) if stays]
        self.image_ids = np.array([file.stem for file in left])
        self._names = np.array([file.image for file in left])
        self._sizes = np.array([size(file) for file in left])
        counts = np.bincount(table.file[sound], minlength=len(files))[stay]
        self._offsets = np.concatenate([[0], counts.cumsum()])
        self._boxes = np.where(table.over[:, None], table.clipped, table.boxes)[sound]
        self._labels = table.label[sound]
        self._ignored = ignored[sound]


def _stems(folder: Path) -> list[str]:
    """The stems of all annotation files."""
    if not folder.is_dir():
        raise DataError(str(folder), "there is no such folder of annotations", "Check root and annotations.")
    names = stems(folder)
    if not names:
        raise DataError(str(folder), "there is no XML file in it", "Check root and annotations.")
    return names


def _found(folder: Path, files: Iterable[File]) -> tuple[str, ...]:
    """All names, sorted."""
    names = {entry.name for file in files for entry in file.sheet.objects} - {""}
    if not names:
        raise DataError(str(folder), "no object in its files has a name", 'Name the classes: classes = ["..."].')
    return tuple(sorted(names))
