"""Regions of a dataset's images, read from a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from detcore.errors import ConfigError, DataError
from detcore.index import Writer, indexed
from detcore.interfaces import Dataset
from detcore.results import image_ids
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from detcore_datasets.wrappers import Chosen

log = logging.getLogger("detcore.data")


class Row(msgspec.Struct):
    """A region as COCO's results JSON has it; whatever its category."""

    image_id: int | str
    bbox: tuple[float, float, float, float]
    score: float


class ProposalsDataset(Chosen):
    """A dataset whose samples have regions beside objects, for ``GivenProposals``.

    Targets get ``proposals``, ``tv_tensors.BoundingBoxes`` (P, 4) XYXY, which transforms move as they do ``boxes``, and
    ``proposal_scores`` (P,) float32, best first. Regions of images that the dataset does not have are not used.

    Args:
        dataset: Any.
        file: Rows of COCO's results JSON, ``image_id``, ``bbox`` (x, y, width, height) and ``score``, as
            ``core-run eval --output`` writes them. It is read once and cached as arrays that all workers map.
        max_proposals: So many of an image, the best.

    Raises:
        DataError: The file cannot be read, is not such a file, or has no region of any of the images.
    """

    def __init__(self, *, dataset: Dataset, file: str, max_proposals: int = 2000) -> None:
        if max_proposals < 1:
            raise ConfigError("ProposalsDataset: max_proposals", f"{max_proposals}", "It is at least 1.")
        super().__init__(dataset, range(len(dataset)))
        self.max_proposals = max_proposals
        self._arrays = indexed(Path(file), "proposals 1", _make)
        place = {name: row for row, name in enumerate(self._arrays.meta["images"])}
        names = image_ids(dataset)
        self._place = np.array([place.get(name, -1) for name in names])
        without = int((self._place < 0).sum())
        if without == len(names):
            raise DataError(file, "has no region of any image of the dataset", f"Its images are {_some([*place])}.")
        if without:
            log.warning("%s: %d images of %d have no region", file, without, len(names))

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        image, target = super().__getitem__(index)
        place = int(self._place[index])
        first, end = self._arrays["offsets"][place : place + 2].tolist() if place >= 0 else (0, 0)
        rows = slice(first, min(end, first + self.max_proposals))
        boxes = torch.from_numpy(self._arrays["boxes"][rows].copy())
        size = tuple(F.get_size(image))
        return image, {
            **target,
            "proposals": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "proposal_scores": torch.from_numpy(self._arrays["scores"][rows].copy()),
        }


def _make(source: Path, writer: Writer) -> None:
    """``boxes`` (N, 4) x1, y1, x2, y2 and ``scores`` (N,) float32, image by image and best first; ``offsets``."""
    try:
        rows = msgspec.json.decode(source.read_bytes(), type=list[Row])
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        fix = "It is a list of rows with image_id, bbox and score, as core-run eval --output writes it."
        raise DataError(str(source), f"is no file of results: {error}", fix) from error
    numbers: dict[int | str, int] = {}
    image = np.array([numbers.setdefault(row.image_id, len(numbers)) for row in rows], np.int64)
    boxes = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    scores = np.array([row.score for row in rows], np.float32)
    wrong = np.flatnonzero(~(boxes[:, 2:] >= 0).all(1))
    if len(wrong):
        found = f"width and height are {boxes[wrong[0], 2:].tolist()}"
        raise DataError(f"{source}: [{wrong[0]}]", found, "Neither is below 0.")
    boxes[:, 2:] += boxes[:, :2]
    order = np.lexsort((-scores, image))
    writer.meta["images"] = [*numbers]
    writer.add("boxes", boxes[order].astype(np.float32))
    writer.add("scores", scores[order])
    writer.add("offsets", np.concatenate([[0], np.bincount(image, minlength=len(numbers)).cumsum()]))


def _some(names: list[int | str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
