"""LVIS (Gupta, Dollár, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from detcore.index import Writer
from detcore_coco.checks import Ints
from detcore_coco.dataset import CocoDataset
from detcore_coco.index import Dialect
from detcore_coco.reading import ImageRow, read
from torch import Tensor

LISTS = {"neg_labels": "neg_category_ids", "not_exhaustive_labels": "not_exhaustive_category_ids"}
"""What an image has beside its objects: the target's key, and the file's."""


class LVISImage(ImageRow, kw_only=True, gc=False):
    """An entry of ``images``; version 1 has no ``file_name``, and the folder is in ``coco_url`` alone."""

    file_name: str = ""
    coco_url: str = ""
    neg_category_ids: tuple[int, ...] = ()
    not_exhaustive_category_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.file_name and not self.coco_url:
            raise ValueError("there is neither coco_url nor file_name")
        if self.coco_url:
            self.file_name = "/".join(self.coco_url.split("/")[-2:])


class Category(msgspec.Struct):
    """An entry of ``categories``, as the evaluation reads it: how frequent it is in the training set."""

    id: int
    frequency: Literal["r", "c", "f"]


class Categories(msgspec.Struct):
    """A file, without the rest of it."""

    categories: list[Category]


def write_lists(writer: Writer, images: Sequence[LVISImage]) -> None:
    """Add the lists of I images: each with ``_ends`` (I + 1,), where that of an image begins."""
    for name in LISTS.values():
        lists = [getattr(image, name) for image in images]
        writer.add(name, np.fromiter(chain.from_iterable(lists), np.int64))
        writer.add(f"{name}_ends", np.cumsum([0, *map(len, lists)], dtype=np.int64))


class LVISDataset(CocoDataset):
    """An LVIS file, version 1, and a folder in which COCO's ``train2017`` and ``val2017`` are.

    It is a :class:`detcore_coco.dataset.CocoDataset`, whose arguments it takes; files are the last two parts of
    ``coco_url``. The target has two more entries, labels of classes, of which not all objects are annotated in LVIS:
    ``neg_labels`` (K,), those that are verified not to be in the image; and ``not_exhaustive_labels`` (K,), those of
    which there may be more objects than are annotated (section 3.1). What is neither of these nor annotated was not
    looked for.
    """

    DIALECT = Dialect("lvis 1", LVISImage, write_lists)

    def target(self, index: int, rows: Ints) -> dict[str, Any]:
        """The target of an image with these rows of its objects."""
        return {**super().target(index, rows), **self.lists(index)}

    def lists(self, index: int) -> Mapping[str, Tensor]:
        """``neg_labels`` and ``not_exhaustive_labels`` of an image."""
        return {key: self._labels(index, name) for key, name in LISTS.items()}

    @cached_property
    def frequencies(self) -> Sequence[str]:
        """By label how frequent a class is in the training set: ``"r"``, ``"c"`` or ``"f"``, rare, common, frequent.

        Raises:
            DataError: The file does not say it of each category.
        """
        found = {category.id: category.frequency for category in read(self.file, Categories).categories}
        return tuple(found[id_] for id_ in self.category_ids)

    def _labels(self, index: int, name: str) -> Tensor:
        """The labels of an image's list of category ids, without those of classes that were not chosen."""
        begin, end = self._index[f"{name}_ends"][self._images[index] :][:2]
        ids = self._index[name][begin:end]
        known = np.asarray(self.category_ids)
        label, place = np.nonzero(known[:, None] == ids)
        return torch.from_numpy(label[np.argsort(place, kind="stable")])
