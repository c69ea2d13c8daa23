"""A dataset of records: what every format shares, from reading through judging to samples."""

from __future__ import annotations

import inspect
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from detcore.errors import DataError
from detcore.index import Arrays, Writer, indexed
from detcore.interfaces import ClassNames
from detcore.report import Finding, Flaw, settle, summarize

from detcore_records.checks import Table, clip, image_findings, object_findings
from detcore_records.files import file_finding, write_sizes
from detcore_records.index import Texts, unshared, write_records
from detcore_records.record import Bad, Record
from detcore_records.samples import (
    Bools,
    Floats,
    ImageFiles,
    Ints,
    Invalid,
    choose,
    count_objects,
    log,
    polygons_of,
    target_of,
)


class RecordDataset(ImageFiles):
    """Images in a folder and records of what is in them; a class on it says what the records are, in two methods.

    ``dataset[i]`` is ``(tv_tensors.Image uint8 (3, H, W), target)``; the target has ``boxes`` (G, 4) XYXY float32,
    ``labels`` (G,) int64 from 0, ``image_id``, ``iscrowd`` (G,) int64, ``area`` (G,) float32. With ``segmentation =
    "polygons"`` also ``polygons``, ``offsets`` and ``owner``, see :mod:`detcore.polygons`.

    Records are read once and kept as arrays that workers map. They are read anew when one of :meth:`files` changed, or
    the module of the class; or an attribute that the class set *before* it called this constructor. What is wrong with
    images and objects is found here; what is wrong with an image's pixels, when it is read. Boxes that stand out over
    the image by up to a pixel, as rounded ones do, count as sound.

    Args:
        source: The file or folder of annotations.
        images: The folder that the records' files start from.
        classes: Names by label. Where the format says what classes there are: some of them, and objects of others are
            left out; else, an object of another class is a flaw.
        segmentation: Whether outlines are read; crowds need none.
        invalid: What to do about flaws: ``"fail"`` raises at the first; ``"skip"`` drops objects and images (clips
            boxes that are partly outside; gives a black image without objects for one that cannot be decoded) and
            notes it in ``report``.
        keep_empty: Whether images without an object (crowds do not count) are kept.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        classes: Names by label; where none are given, the format's, or all names of objects in the order of the
            alphabet.
        report: The flaws that were skipped so far (in this process: a worker's are in its own and in the log).

    Raises:
        DataError: The source cannot be read; there is no class or image; any flaw where ``invalid`` is ``"fail"``.
    """

    VERSION: ClassVar[int] = 1
    """Raised when the same files are read otherwise, where the change is in another module than the class."""

    UNIT: ClassVar[str] = "line"
    """What the numbers in a record's ``lines`` count."""
    WHOLE: ClassVar[bool] = False
    """Whether boxes are of whole objects, of which a part may be outside the image: that it is cut off is no flaw."""

    def __init__(
        self,
        *,
        source: str,
        images: str,
        classes: ClassNames | None = None,
        segmentation: Literal["none", "polygons"] = "none",
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        options = dict(vars(self))
        self.source, self.folder = Path(source), Path(images)
        self.segmentation, self.invalid, self.exif = segmentation, invalid, exif
        self.report: list[Flaw] = []
        self._arrays = self._read(options)
        self._settle_bad()
        if not len(self._wheres):
            raise DataError(str(self.source), "lists no image", "Is it the right one?")
        self.classes = self._choose(classes)
        self._label_of = self._labels()
        self.annotated_classes = self._annotated()
        self._sizes = self._measured(options)
        images_stay = self._sound_images()
        objects_stay = self._sound_objects(images_stay)
        for kind, count in summarize(self.report).items():
            log.warning("%s: %d x %s", self.source, count, kind)
        self._take(images_stay, objects_stay, keep_empty)

    # ------------------------------------------------------------------------------------------- what a format says

    @abstractmethod
    def class_names(self) -> Sequence[str] | None:
        """All classes that there are, in order; None: those that objects have. Called before the records are read."""

    @abstractmethod
    def records(self) -> Iterable[Record | Bad]:
        """The images with their objects, one by one, and what cannot be read."""

    def files(self) -> Iterable[str | Path] | None:
        """What is read beside the source, files and folders; None: the records are not of files, nor to be kept."""
        return ()

    def absent(self, names: Sequence[str]) -> Finding:
        """Those of all images, by what records call their files, that are not there."""
        if not self.folder.is_dir():
            raise DataError(str(self.folder), "there is no such folder of images", "Check the path.")
        return file_finding(self.folder, names)

    # --------------------------------------------------------------------------------------------------- the samples

    @property
    def image_ids(self) -> Any:
        """(I,) by index: numbers or texts."""
        numbers = self._arrays["ids"]
        return numbers[self._images] if len(numbers) else Texts(self._arrays, "id_texts", self._images)

    def __len__(self) -> int:
        return len(self._images)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return Path(self.folder, Texts(self._arrays, "names")[int(self._images[index])])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, as its record says, or its file."""
        width, height = self._sizes["sizes"][self._images[index]].tolist()
        return height, width

    def rows(self, index: int) -> Ints:
        """(G,) the rows of an image's objects."""
        image = self._images[index]
        rows = np.arange(*self._arrays["offsets"][image : image + 2])
        return rows[self._kept[rows]]

    def target(self, index: int, rows: Ints) -> dict[str, Any]:
        """The target of an image with these rows of its objects."""
        size, arrays = self.size(index), self._arrays
        scale = np.array(size[::-1], np.float64) if arrays["fractions"][self._images[index]] else np.ones(2)
        boxes = arrays["boxes"][rows] * np.tile(scale, 2)
        clipped, over = clip(boxes, np.array([size[::-1]], np.float64))
        boxes = np.where(over[:, None], clipped, boxes)
        areas = arrays["areas"][rows]
        areas = np.where(np.isnan(areas), (boxes[:, 2:] - boxes[:, :2]).prod(1), areas)
        labels = self._label_of[arrays["labels"][rows]]
        id_ = self._id(int(self._images[index]))
        target = target_of(boxes, labels, id_, arrays["crowd"][rows], areas, size)
        if self.segmentation == "none":
            return target
        return {**target, **polygons_of([self._outlines(row, scale) for row in rows.tolist()], size)}

    def _outlines(self, row: int, scale: Floats) -> list[Floats]:
        """The outlines (K, 2) of an object; a crowd has none."""
        if self._arrays["crowd"][row]:
            return []
        first, last = self._arrays["objects"][row : row + 2].tolist()
        ends = self._arrays["ends"][first : last + 1].tolist()
        return [self._arrays["points"][begin:end] * scale for begin, end in pairwise(ends)]

    # -------------------------------------------------------------------------------------------------- construction

    def _read(self, options: Mapping[str, Any]) -> Arrays:
        """The records' arrays, of the cache where it has them."""
        outlined = self.segmentation != "none"

        def make(writer: Writer) -> None:
            write_records(writer, self._told(), self.class_names(), outlined)

        return self._cached(f"records 1 {outlined}", options, make)

    def _told(self) -> Iterator[Record | Bad]:
        """The records, and a line that names the file where one cannot be read."""
        try:
            yield from self.records()
        except OSError as error:
            found = f"cannot be read: {error.strerror or error}"
            raise DataError(str(error.filename or self.source), found, "Check the path.") from error
        except UnicodeDecodeError as error:
            raise DataError(str(self.source), "not a text in UTF-8", "Is it the right file?") from error

    def _cached(
        self, what: str, options: Mapping[str, Any], make: Callable[[Writer], None], others: Iterable[str] = ()
    ) -> Arrays:
        """What is made of the files as a class with these options reads them, and of other files."""
        files, code = self.files(), _code(type(self))
        if files is None or code is None:
            return unshared(make)
        name = f"{code[0]} {type(self).__qualname__} {self.VERSION}"
        kind = f"{what} {name} {self.folder} {sorted(options.items())}"
        return indexed(self.source, kind, lambda _, writer: make(writer), [*files, *code, *others])

    @property
    def _wheres(self) -> Texts:
        return Texts(self._arrays, "wheres")

    def _choose(self, classes: Sequence[str] | None) -> Sequence[str]:
        names, declared = self._arrays.meta["classes"], self._arrays.meta["declared"]
        if classes is not None:
            return choose(str(self.source), None if declared is None else names[:declared], classes)
        found = sorted({*names} - {""}) if declared is None else names[:declared]
        if not found:
            raise DataError(str(self.source), "no object has a class", 'Name the classes: classes = ["..."].')
        return choose(str(self.source), None, found)

    def _annotated(self) -> Mapping[str, int]:
        """See :class:`detcore_records.samples.ImageFiles`."""
        names, declared = self._arrays.meta["classes"], self._arrays.meta["declared"]
        rows = np.flatnonzero(np.bincount(self._arrays["labels"])).tolist()
        return {names[row]: row for row in rows if row < (declared or 0)}

    def _labels(self) -> Ints:
        """The label by the row of the index's classes, -1 where it has none."""
        labels = {name: label for label, name in enumerate(self.classes)}
        return np.array([labels.get(name, -1) for name in self._arrays.meta["classes"]], np.int64)

    def _measured(self, options: Mapping[str, Any]) -> Arrays:
        """``sizes`` of all images, and the problems of those whose files were asked for theirs."""
        arrays = self._arrays
        asked = np.flatnonzero(~arrays["sized"])
        if not len(asked):
            return arrays
        names = [*Texts(arrays, "names", asked)]

        def make(writer: Writer) -> None:
            write_sizes(writer, self.folder, names, self.exif, arrays["sizes"], asked)

        root = str(self.folder)
        paths = (os.path.join(root, name) for name in names)
        return self._cached(f"sizes 1 {self.exif}", options, make, paths)

    def _settle_bad(self) -> None:
        """Raise for the first entry that cannot be read, or note them all."""
        bad: Sequence[tuple[str, str, str, str]] = self._arrays.meta["bad"]
        alike: dict[tuple[str, str], list[int]] = {}
        for row, (_, _, kind, action) in enumerate(bad):
            alike.setdefault((kind, action), []).append(row)
        found = [
            Finding(kind, np.array(rows), lambda row: bad[row][1], action) for (kind, action), rows in alike.items()
        ]
        settle(found, lambda row: bad[row][0], len(bad), self.invalid == "skip", self.report)

    def _sound_images(self) -> Bools:
        """(I,) which images stay."""
        arrays = self._arrays
        names = [*Texts(arrays, "names")]
        ids = arrays["ids"].tolist() or [*Texts(arrays, "id_texts")]
        problems = dict(self._sizes.meta.get("problems", ()))
        found = image_findings(ids, self.absent(names), self._sizes["sizes"], problems)
        return settle(found, self._where, len(names), self.invalid == "skip", self.report)

    def _where(self, image: int) -> str:
        """Where an image's annotations are."""
        return self._wheres[image] or f"{self.source}: image {self._id(image)}"

    def _id(self, image: int) -> int | str:
        numbers = self._arrays["ids"]
        return int(numbers[image]) if len(numbers) else Texts(self._arrays, "id_texts")[image]

    def _sound_objects(self, images_stay: Bools) -> Bools:
        """(N,) which objects stay; those of images that do not are not judged."""
        arrays = self._arrays
        counts = np.diff(arrays["offsets"])
        image = np.repeat(np.arange(len(counts)), counts)
        sizes = self._sizes["sizes"].astype(np.float64)
        scale = np.where(arrays["fractions"][:, None], sizes, 1.0)
        boxes = arrays["boxes"] * np.tile(scale, 2)[image]
        names, declared = arrays.meta["classes"], arrays.meta["declared"]
        known = self.classes if declared is None else names[:declared]
        odd = dict(arrays.meta["odd"]["boxes"])
        judged = images_stay[image]

        def where(row: int) -> str:
            of, line = int(image[row]), int(arrays["lines"][row])
            if line:
                return f"{self._wheres[of] or self.source}: {self.UNIT} {line}"
            return f"{self._where(of)}: object {row - int(arrays['offsets'][of]) + 1}"

        def settled(findings: Iterable[Finding], judged: Bools) -> Bools:
            left = [attrs.evolve(each, rows=each.rows[judged[each.rows]]) for each in findings]
            return judged & settle(left, where, len(judged), self.invalid == "skip", self.report)

        table = Table(boxes, sizes[image], arrays["labels"], names, known, odd)
        found = [each for each in object_findings(table) if each.action != "clipped" or not self.WHOLE]
        stay = settled(found, judged)
        if self.segmentation == "none":
            return stay
        texts = {row: text for row, text in arrays.meta["odd"]["outlines"] if not arrays["crowd"][row]}
        return settled([Finding("unusable outline", np.array([*texts], np.int64), texts.__getitem__)], stay)

    def _take(self, images_stay: Bools, objects_stay: Bools, empty: bool) -> None:
        """Keep what is sound and of the chosen classes: rows of the index."""
        arrays = self._arrays
        counts = np.diff(arrays["offsets"])
        judged = np.repeat(images_stay, counts)
        self._kept = objects_stay & (self._label_of[arrays["labels"]] >= 0)
        if not empty:
            real = np.concatenate([[0], np.cumsum(self._kept & ~arrays["crowd"])])
            images_stay = images_stay & (np.diff(real[arrays["offsets"]]) > 0)
        self._images = np.flatnonzero(images_stay)
        self.object_counts = count_objects(judged, objects_stay, self._kept & np.repeat(images_stay, counts))
        if not len(self._images):
            why = "All had flaws: see the log." if empty else "Set keep_empty = true to have images without objects."
            raise DataError(str(self.source), f"no image is left of {len(images_stay)}", why)


def _code(kind: type) -> list[str] | None:
    """The files of the classes that read, which change when they are edited; None: it has none (a notebook's)."""
    try:
        own = [each for each in kind.__mro__ if issubclass(each, RecordDataset) and each is not RecordDataset]
        return [inspect.getfile(each) for each in own]
    except (OSError, TypeError):
        return None
