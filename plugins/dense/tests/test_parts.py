"""Slices of rows: all of them once, in few parts, each small."""

from __future__ import annotations

import pytest
from detcore_dense import parts as module
from detcore_dense.parts import parts


@pytest.mark.parametrize("length", [1, 2, 7, 500, 22400])
@pytest.mark.parametrize("most", [1, 3000, 2**23])
def test_every_row_is_in_one_slice_and_none_is_empty(length: int, most: int) -> None:
    slices = parts(length, 44800, 500, most)
    assert [row for part in slices for row in range(part.start, part.stop)] == list(range(length))
    assert all(part.stop > part.start for part in slices)


@pytest.mark.parametrize(
    ("objects", "most", "expected"),
    [
        (8, 2**23, 1),  # 8 objects at once
        (9, 2**23, 2),
        (16, 2**23, 2),
        (17, 2**23, 4),
        (500, 2**23, 64),
        (8, 399_999, 2),  # the memory bound is lower than that
        (8, 200_000, 2),
        (8, 99_999, 8),
    ],
)
def test_there_are_as_many_slices_as_the_pairs_of_one_allow(objects: int, most: int, expected: int) -> None:
    """50,000 priors, of which no slice holds less than one."""
    slices = parts(50_000, 50_000, objects, most)
    assert len(slices) == expected
    assert max(part.stop - part.start for part in slices) * objects <= most


def test_few_pairs_are_looked_at_at_once() -> None:
    """2,000 proposals and 100 objects."""
    assert parts(2000, 2000, 100, 2**24) == [slice(0, 2000)]
    assert module.FEW > 2000 * 100


def test_there_are_no_more_slices_than_rows_and_none_of_none() -> None:
    assert parts(3, 10**6, 3, 1) == [slice(0, 1), slice(1, 3)]
    assert parts(0, 10**6, 0, 1) == []
