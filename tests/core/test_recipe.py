"""Numbers of a config that no run could be made with."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from detcore.preprocess import Preprocess
from detcore.recipe import TrainSettings, ValSettings
from pydantic import TypeAdapter, ValidationError

COUNTS = {
    TrainSettings: ("epochs", "batch_size", "save_every", "report_every"),
    ValSettings: ("batch_size", "every"),
    Preprocess.__init__: ("divisor",),
}


@pytest.mark.parametrize(("where", "name"), [(where, name) for where, names in COUNTS.items() for name in names])
def test_counts_are_positive(where: Any, name: str) -> None:
    adapter = TypeAdapter(get_type_hints(where, include_extras=True)[name])
    assert adapter.validate_python(1) == 1
    with pytest.raises(ValidationError):
        adapter.validate_python(0)


@pytest.mark.parametrize("where", [TrainSettings, ValSettings])
def test_workers_may_be_none_but_not_less(where: Any) -> None:
    adapter = TypeAdapter(get_type_hints(where, include_extras=True)["workers"])
    assert adapter.validate_python(0) == 0
    with pytest.raises(ValidationError):
        adapter.validate_python(-1)
