"""The text of an image, line by line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import attrs
from detcore_records.record import Bad, Numbers, extent


@attrs.frozen
class Line:
    """An object.

    Attributes:
        number: Of the line, from 1.
        label: The number of its class.
        box: Left, top, right, bottom, in fractions of the image.
        outlines: One, x, y, x, y, ..., in fractions; or none.
    """

    number: int
    label: int
    box: Numbers
    outlines: Sequence[Numbers] = ()


def read_text(path: str, text: str, labels: Collection[int]) -> Iterator[Line | Bad]:
    """The objects of a text, and the lines that are none.

    Args:
        path: Of the text, for messages.
        text: As it is written.
        labels: The numbers that are a class.
    """
    seen: dict[tuple[float, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where, numbers = f"{path}: line {number}", _numbers(line)
        if problem := _problem(line, numbers):
            yield Bad(where, problem, "unreadable line")
        elif numbers[0] not in labels:
            found = f"class {line.split()[0]} is none of the names, which are {min(labels)} to {max(labels)}"
            yield Bad(where, found, "unknown class")
        elif numbers in seen:
            yield Bad(where, f"line {seen[numbers]} is the same", "object listed twice")
        else:
            seen[numbers] = number
            yield _line(number, numbers)


def _numbers(line: str) -> tuple[float, ...]:
    """Those of a line; none where one is no number."""
    try:
        return tuple(map(float, line.split()))
    except ValueError:
        return ()


def _problem(line: str, numbers: Sequence[float]) -> str:
    if not numbers:
        short = line.strip() if len(line) < 60 else f"{line.strip()[:50]}..."
        return f'"{short}" is not made of numbers'
    if len(numbers) != 5 and (len(numbers) < 7 or len(numbers) % 2 == 0):
        return f"{len(numbers)} numbers; a class and a box are 5, a class and an outline 7, 9, 11 or more"
    return ""


def _line(number: int, numbers: Sequence[float]) -> Line:
    label, *rest = numbers
    if len(rest) > 4:
        return Line(number, int(label), extent([rest]), [rest])
    x, y, width, height = rest
    return Line(number, int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
