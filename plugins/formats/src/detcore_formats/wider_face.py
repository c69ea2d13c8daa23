"""WIDER FACE (Yang et al., "WIDER FACE: A Face Detection Benchmark", CVPR 2016)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from detcore_records.dataset import RecordDataset
from detcore_records.files import SUFFIXES
from detcore_records.record import Bad, Record, corners

INVALID = 7
"""Which of a face's numbers, from 0, says that it is not to be counted; before: box, blur, expression, illumination."""

Numbered = tuple[int, str]


class WIDERFaceDataset(RecordDataset):
    """A text with, for each image, its path, the number of its faces, and a line for each of these.

    Faces that are marked ``invalid`` count neither for nor against, as a crowd. An image with 0 faces has a line of
    zeros all the same. The only class is ``face``. For what becomes of objects and flaws, and for the arguments
    (``source`` is ``wider_face_train_bbx_gt.txt``), see :class:`detcore_records.dataset.RecordDataset`.

    Attributes:
        image_ids: Paths without suffix.
    """

    def class_names(self) -> Sequence[str]:
        """The one."""
        return ["face"]

    def records(self) -> Iterator[Record | Bad]:
        """One for each image."""
        lines = [
            (number, line)
            for number, line in enumerate(self.source.read_text("utf-8-sig").splitlines(), 1)
            if line.strip()
        ]
        begin = 0
        while begin < len(lines):
            end = begin + 1
            while end < len(lines) and not _is_path(lines[end][1]):
                end += 1
            yield from self._image(lines[begin], lines[begin + 1 : end])
            begin = end

    def _image(self, head: Numbered, lines: Sequence[Numbered]) -> Iterator[Record | Bad]:
        """An image: the line of its path, and those after it."""
        path = head[1].strip()
        if not _is_path(path):
            yield Bad(f"{self.source}: line {head[0]}", f'"{path[:50]}" is not the path of an image', "unreadable line")
            return
        announced = lines[0][1].strip() if lines else ""
        if not announced.isdecimal():
            found = f'after the path comes "{announced[:50]}", not the number of faces'
            yield Bad(f"{self.source}: line {lines[0][0] if lines else head[0]}", found, "unreadable image")
            return
        faces = [(number, line.split()) for number, line in lines[1:]]
        if announced == "0" and len(faces) == 1 and not any(field.strip("0") for field in faces[0][1]):
            faces = []
        if int(announced) != len(faces):
            found = f"{announced} faces are announced, {len(faces)} lines follow"
            yield Bad(f"{self.source}: line {lines[0][0]}", found, "unreadable image")
            return
        yield Record(
            id=os.path.splitext(path)[0],
            file=path,
            boxes=[corners(fields[:4]) for _, fields in faces],
            names=["face"] * len(faces),
            crowd=[fields[INVALID : INVALID + 1] == ["1"] for _, fields in faces],
            lines=[number for number, _ in faces],
        )


def _is_path(line: str) -> bool:
    return line.strip().lower().endswith(SUFFIXES)
