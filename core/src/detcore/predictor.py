"""A trained detector for scripts: images in, what is in them out, with the numbers that evaluation has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import Transform

from detcore.data import Loader, RawBatch
from detcore.errors import ConfigError, DataError
from detcore.images import from_pillow, read_image
from detcore.interfaces import Detector
from detcore.masks import paste
from detcore.preprocess import Preprocess, to_original
from detcore.results import Row, to_rows
from detcore.runner.evaluate import evaluation_mode
from detcore.runner.optim import Amp, autocast, within_memory
from detcore.structures import Detections

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor
"""A file, a picture of Pillow, an array (H, W, 3) uint8 or a tensor (3, H, W) uint8; RGB."""


@attrs.frozen(eq=False)
class Result:
    """What was found in one image, best first, on the CPU.

    Attributes:
        found: In pixels of the image as it was given.
        classes: Names by label.
        size: Height and width of the image.
        source: The image's file, where it came from one.
    """

    found: Detections
    classes: Sequence[str]
    size: tuple[int, int]
    source: Path | None = None

    def __len__(self) -> int:
        return len(self.found)

    @property
    def boxes(self) -> Tensor:
        """(D, 4) float32, x1, y1, x2, y2."""
        return self.found.boxes

    @property
    def scores(self) -> Tensor:
        """(D,) float32."""
        return self.found.scores

    @property
    def labels(self) -> Tensor:
        """(D,) int64, from 0."""
        return self.found.labels

    @property
    def names(self) -> list[str]:
        """The name of each label."""
        return [self.classes[label] for label in self.labels.tolist()]

    @property
    def masks(self) -> Tensor | None:
        """(D, H, W) bool, as large as the image; None where the detector finds none."""
        if self.found.masks is None:
            return None
        bitmaps = torch.zeros(len(self), *self.size, dtype=torch.bool)
        for row, (mask, box) in enumerate(zip(self.found.masks.float(), self.boxes, strict=True)):
            bitmaps[row] = paste(mask, box, self.size)
        return bitmaps

    def above(self, score: float) -> Result:
        """What has at least this score."""
        return attrs.evolve(self, found=self.found.each(lambda rows: rows[self.scores >= score]))

    def to_torchvision(self) -> dict[str, Tensor]:
        """``boxes``, ``labels`` (from 0), ``scores``, and ``masks`` where there are any, as torchmetrics reads them."""
        masks = self.masks
        made = {"boxes": self.boxes, "labels": self.labels, "scores": self.scores}
        return made if masks is None else {**made, "masks": masks}

    def to_coco(self, image_id: int | str, category_ids: Sequence[int] | None = None) -> list[Row]:
        """Rows of COCO's results JSON; categories are numbered from 1 where no ids by label are given."""
        ids = range(1, len(self.classes) + 1) if category_ids is None else category_ids
        return to_rows(self.found, image_id, ids, self.size)

    def to_supervision(self) -> Any:
        """``supervision.Detections``, with the names of classes as ``data["class_name"]``.

        Raises:
            ConfigError: The package supervision is not installed.
        """
        try:
            import supervision  # noqa: PLC0415 (optional)
        except ImportError as error:
            where = "Result.to_supervision"
            raise ConfigError(where, "supervision is not installed", "Install it: pip install supervision.") from error
        masks = self.masks
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            mask=None if masks is None else masks.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            data={"class_name": np.array(self.names, dtype=np.str_)},
        )


class Predictor(nn.Module):
    """A detector with all that its weights mean: normalisation, classes, the transforms of evaluation.

    Parts of the detector are reached by the names that they have in it: ``predictor.get_submodule("backbone")``.

    Args:
        detector: On the device of ``preprocess``.
        preprocess: As it was trained.
        classes: Names by label.
        transforms: Those of evaluation, called in order on (image, target); they resize, no more.
        batch_size: Of evaluation.
        amp: Mixed precision.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        preprocess: Preprocess,
        classes: Sequence[str],
        transforms: Sequence[Transform] = (),
        batch_size: int = 1,
        amp: Amp = "off",
    ) -> None:
        super().__init__()
        self.detector = detector
        self.preprocess = preprocess
        self.classes = tuple(classes)
        self.transforms = tuple(transforms)
        self.batch_size = batch_size
        self.amp: Amp = amp
        self.eval()

    def __getattr__(self, name: str) -> Any:
        """What only the detector has."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "detector" not in self.__dict__.get("_modules", {}):
                raise
        return getattr(self.detector, name)

    def forward(self, raw: RawBatch) -> list[Detections]:
        """Per image what was found, in original pixels, best first."""
        device = self.preprocess.device
        with evaluation_mode(self.detector), within_memory("prediction", device):
            batch = self.preprocess(raw)
            with autocast(device, self.amp):
                found = self.detector(batch, mode="detections")
            return to_original(found, batch)

    def predict(
        self, images: ImageLike | Sequence[ImageLike], *, batch_size: int | None = None, score: float = 0.0
    ) -> list[Result]:
        """What is in one image or several, a result for each.

        Images of files are turned upright as their EXIF orientation says.

        Args:
            images: Files are read batch by batch, so that a list of them may be long.
            batch_size: Images at once; by default as evaluation does, and then the numbers are the same.
            score: What scores less is left out.

        Raises:
            UserError: Something is no image, or cannot be read; memory that ran out.
        """
        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        step = batch_size or self.batch_size
        results: list[Result] = []
        for start in range(0, len(several), step):
            chunk = several[start : start + step]
            results += self._batch([_read(image, start + place) for place, image in enumerate(chunk)], chunk)
        return [each.above(score) for each in results] if score > 0 else results

    def _batch(self, images: Sequence[Tensor], sources: Sequence[ImageLike]) -> list[Result]:
        loader = Loader(_Images(images, self.classes), self.transforms, batch_size=len(images))
        (raw,) = loader.epoch(0)
        return [
            Result(found.each(Tensor.cpu), self.classes, (image.shape[1], image.shape[2]), _path(source))
            for found, image, source in zip(self(raw), images, sources, strict=True)
        ]


@attrs.define(eq=False)
class _Images:
    """A dataset of what is at hand."""

    images: Sequence[Tensor]
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        return self.images[index], {}


def _path(source: ImageLike) -> Path | None:
    return Path(source) if isinstance(source, str | os.PathLike) else None


def _read(image: Any, number: int) -> Tensor:
    """(3, H, W) uint8, RGB, on the CPU.

    Raises:
        DataError: It is none, or a file that cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), exif=True)
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return torch.from_numpy(image.transpose(2, 0, 1).copy())
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3:
        return image.as_subclass(Tensor).cpu()
    found = f"{type(image).__name__} {(*image.shape,)} {image.dtype}" if hasattr(image, "dtype") else repr(image)[:80]
    wanted = "a path, a picture of Pillow, an array (H, W, 3) uint8 or a tensor (3, H, W) uint8"
    raise DataError(f"image {number}", f"found {found}, wanted {wanted}")
