"""A data format: JSON lines, one image each.

    {"image": "a.jpg", "objects": [{"box": [10, 20, 110, 220], "class": "cat"}]}

Boxes are left, top, right and bottom, in pixels. A crowd has ``"crowd": true`` beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from detcore_records.dataset import RecordDataset
from detcore_records.record import Bad, Record


class {{ cookiecutter.__class }}(RecordDataset):
    """Images in a folder, and a file of lines that say what is in them.

    The base reads images, judges objects and keeps them in arrays that workers share; it takes ``source``, ``images``,
    ``classes``, ``invalid``, ``keep_empty`` and others. A format says what its records are, and what classes there are.
    """

    def class_names(self) -> Sequence[str] | None:
        """None: those that objects have, in the order of the alphabet."""
        return None

    def records(self) -> Iterator[Record | Bad]:
        """One for each line that is not empty; a line that cannot be read is one that is wrong."""
        with self.source.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield self._record(number, line)

    def _record(self, number: int, line: str) -> Record | Bad:
        where = f"{self.source}: line {number}"
        try:
            row = json.loads(line)
            objects: list[dict[str, Any]] = row.get("objects", [])
            return Record(
                id=number,
                file=row["image"],
                boxes=[each["box"] for each in objects],
                names=[each["class"] for each in objects],
                crowd=[bool(each.get("crowd")) for each in objects],
                lines=[number] * len(objects),
            )
        except json.JSONDecodeError as error:
            return Bad(where, f"is no JSON: {error}", "unreadable line")
        except (AttributeError, KeyError, TypeError) as error:
            return Bad(where, f"is no image with objects ({type(error).__name__}: {error})", "unreadable line")
