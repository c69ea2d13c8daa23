"""CrowdHuman (Shao et al., "CrowdHuman: A Benchmark for Detecting Human in a Crowd", 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from detcore_records.dataset import RecordDataset
from detcore_records.record import Bad, Record, corners
from detcore_records.samples import Invalid

Part = Literal["full", "visible", "head"]


class Attributes(msgspec.Struct):
    """What is said of a person, or of a head; most of it is left out."""

    ignore: int = 0


class Person(msgspec.Struct):
    """An entry of ``gtboxes``; boxes are left, top, width, height."""

    tag: str
    fbox: list[float] = []
    vbox: list[float] = []
    hbox: list[float] = []
    extra: Attributes = msgspec.field(default_factory=Attributes)
    head_attr: Attributes = msgspec.field(default_factory=Attributes)


class Line(msgspec.Struct):
    """A line of the file."""

    ID: str
    gtboxes: list[Person]


class CrowdHumanDataset(RecordDataset):
    """A file with the people of an image on each line.

    Who is to be ignored, and what is tagged ``mask`` (reflections, statues, groups), counts neither for nor against,
    as a crowd. Boxes of whole people reach outside of images; what does is cut off, and is no flaw. For what becomes of
    objects and flaws, and the other arguments, see :class:`detcore_records.dataset.RecordDataset`.

    Args:
        source: ``annotation_train.odgt`` or another of its kind.
        images: The folder of images.
        box: Of which part of a person: ``"full"`` (with what is hidden), ``"visible"``, or ``"head"``.
        invalid: What to do about flaws.
        keep_empty: Whether images without an object are kept.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        image_ids: ``ID``.
    """

    WHOLE = True

    def __init__(
        self,
        *,
        source: str,
        images: str,
        box: Part = "full",
        invalid: Invalid = "fail",
        keep_empty: bool = True,
        exif: bool = False,
    ) -> None:
        self.box = box
        super().__init__(source=source, images=images, invalid=invalid, keep_empty=keep_empty, exif=exif)

    def class_names(self) -> Sequence[str]:
        """The one."""
        return ["head" if self.box == "head" else "person"]

    def records(self) -> Iterator[Record | Bad]:
        """One for each line."""
        decoder = msgspec.json.Decoder(Line)
        with self.source.open("rb") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield self._record(decoder, text, f"{self.source}: line {number}")

    def _record(self, decoder: msgspec.json.Decoder[Line], text: bytes, where: str) -> Record | Bad:
        try:
            line = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Bad(where, f"not CrowdHuman's JSON: {error}", "unreadable line")
        return Record(
            id=line.ID,
            file=f"{line.ID}.jpg",
            boxes=[corners(self._box(person)) for person in line.gtboxes],
            names=[*self.class_names()] * len(line.gtboxes),
            crowd=[self._ignored(person) for person in line.gtboxes],
            where=where,
        )

    def _box(self, person: Person) -> Sequence[float]:
        return {"full": person.fbox, "visible": person.vbox, "head": person.hbox}[self.box]

    def _ignored(self, person: Person) -> bool:
        of_head = self.box == "head" and person.head_attr.ignore != 0
        return person.tag != "person" or person.extra.ignore != 0 or of_head
