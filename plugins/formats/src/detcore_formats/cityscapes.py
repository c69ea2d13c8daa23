"""Cityscapes (Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from detcore_records.dataset import RecordDataset
from detcore_records.record import Bad, Record, extent

CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""The classes whose instances are scored, in the order in which toolboxes number them."""
OTHERS = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road",
    "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole",
    "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "caravan", "trailer",
    "license plate",
)  # fmt: skip
"""What else there is in images: no objects, or not scored."""
FILE = re.compile(r"_gt(Fine|Coarse)_polygons\.json$")


class Area(msgspec.Struct):
    """An entry of ``objects``."""

    label: str
    polygon: list[tuple[float, float]]
    deleted: int = 0


class Sheet(msgspec.Struct, rename="camel"):
    """A file."""

    img_height: int
    img_width: int
    objects: list[Area]


class CityscapesDataset(RecordDataset):
    """Folders of ``*_gtFine_polygons.json``, and such of ``*_leftImg8bit.png``.

    Objects are those of the eight classes whose instances are scored. A label such as ``cargroup`` is of objects that
    were not told apart: a crowd. Polygons are of objects as they were drawn, from the back to the front: what stands
    before an object is not cut out of it, as it is in the ``instanceIds`` images, so that its box may be larger.

    ``source`` is ``gtFine/train``, ``images`` is ``leftImg8bit/train``. For what becomes of objects and flaws, and the
    other arguments, see :class:`detcore_records.dataset.RecordDataset`.

    Attributes:
        image_ids: City and name: ``aachen/aachen_000000_000019``.
    """

    UNIT = "object"

    def files(self) -> Iterable[Path]:
        """The JSON files."""
        return sorted(path for path in self.source.rglob("*_polygons.json") if FILE.search(path.name))

    def class_names(self) -> Sequence[str]:
        """The eight."""
        return CLASSES

    def records(self) -> Iterator[Record | Bad]:
        """One for each file."""
        for path in self.files():
            try:
                sheet = msgspec.json.decode(path.read_bytes(), type=Sheet)
            except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
                yield Bad(str(path), f"not Cityscapes' JSON: {error}", "unreadable file")
                continue
            yield self._record(path, sheet)

    def _record(self, path: Path, sheet: Sheet) -> Record:
        name = FILE.sub("", path.relative_to(self.source).as_posix())
        found = [
            (number, *_class(area.label), [number for point in area.polygon for number in point])
            for number, area in enumerate(sheet.objects, 1)
            if area.label not in OTHERS and not area.deleted
        ]
        return Record(
            id=name,
            file=f"{name}_leftImg8bit.png",
            width=sheet.img_width,
            height=sheet.img_height,
            boxes=[extent([points]) for *_, points in found],
            names=[label for _, label, _, _ in found],
            crowd=[crowd for _, _, crowd, _ in found],
            outlines=[[points] for *_, points in found],
            where=str(path),
            lines=[number for number, *_ in found],
        )


def _class(label: str) -> tuple[str, bool]:
    """The class of a label, and whether it is a group of them."""
    single = label.removesuffix("group")
    return (single, True) if single in CLASSES and single != label else (label, False)
