"""A config with something else in any place is imported, with remarks, or refused in a line; never a crash."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

from detcore.errors import UserError
from detcore.plugins import discover
from detcore_mmdet.config import import_config
from detcore_mmdet.importing import markdown, notes, report
from detcore_mmdet.writing import written
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet_configs import new, old

CATALOG = discover()
JUNK = [None, 0, -1, 3.5, "x", "", True, [], [1, 2], [[1]], {}, {"type": "Fog"}, {"a": {"b": 1}}, [{"type": "Fog"}]]
Path = tuple[str | int, ...]


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a config."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        yield from paths(each, (*path, key))


def changed(config: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    found = copy.deepcopy(config)
    place: Any = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


PLACES = [(config, path) for config in (new(), old()) for path in paths(config)]


@settings(max_examples=60, deadline=None)
@example((new(), ("model", "test_cfg")), None)
@given(st.sampled_from(PLACES), st.sampled_from(JUNK))
def test_anything_anywhere_is_a_remark_or_a_line(place: tuple[dict[str, Any], Path], value: Any) -> None:
    config, path = place
    try:
        found = import_config(changed(config, path, value), CATALOG)
        written(found.table, notes(found), [])
    except UserError as error:
        said = str(error)
    else:
        said = report(File("a.py"), File("a.toml"), found, [])[0]
        assert said in markdown([said], found)
    assert len(said.splitlines()) == 1
