"""What holds for all configs."""

from __future__ import annotations

import contextlib
import copy
import datetime
import subprocess
import sys
from pathlib import Path

import pytest
from detcore.config import dump, format_path, load, parse_path
from detcore.config.fold import Folder, Layer, fold_layers
from detcore.config.references import Resolver
from detcore.config.table import Origin, Table
from detcore.errors import UserError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

# No deadlines: the machine may be busy.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
ALPHABET = "abz_01.$" + "{}[]#=\"'\\ \t\n\r\x00\x7f\u00e9\u2028\U0001f600"
KEYS = st.sampled_from(["a", "b", "c", "type", "0", "1", "odd.key", 'q"', ""])
TEXT = st.text(ALPHABET, max_size=6) | st.sampled_from(["${a}", "$${a}", "$$${", "${", "A", "B"])
DATES = st.dates() | (st.times() | st.datetimes(timezones=st.none() | st.just(datetime.UTC))).map(
    lambda at: at.replace(fold=0)
)
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(), TEXT, DATES, st.just({"_none_": True}))
PLAIN_TEXT = (st.text(ALPHABET, max_size=6) | st.sampled_from(["${a}", "$$${", "$$$${b}"])).map(
    lambda text: text.replace("${", "$${")  # text without references
)
NAMES = st.text(ALPHABET, max_size=5).filter(lambda key: not (key[:1] == key[-1:] == "_"))


def tables(keys, scalars):
    values = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
    )
    return st.dictionaries(keys, values, max_size=4)


def marked(inner):
    """Tables with markers, right and wrong ones."""
    some = st.lists(inner, max_size=2)
    markers = st.fixed_dictionaries(
        {},
        optional={
            "_delete_": st.just(True),
            "_append_": some,
            "_prepend_": some,
            "_remove_": st.lists(st.integers(-2, 2), max_size=2),
            "_insert_before_": st.lists(st.fixed_dictionaries({"at": st.integers(-2, 2), "items": some}), max_size=1),
            "_value_": SCALARS,
            "_wrap_": KEYS | st.just("_append_"),
        },
    )
    return st.builds(lambda table, marks: {**table, **marks}, st.dictionaries(KEYS, inner, max_size=3), markers)


RAW = st.dictionaries(
    KEYS, st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | marked(inner), max_leaves=12), max_size=4
)


def layers(*raws):
    return [Layer(raw, Origin(f"{index}.toml"), "/here") for index, raw in enumerate(raws)]


def result(*raws):
    folded = fold_layers(layers(*raws))
    return values(folded.root), folded.warnings, [str(problem) for problem in folded.problems]


def values(node):
    """A folded tree without its origins and references unresolved."""
    if isinstance(node.value, dict):
        return {key: values(child) for key, child in node.value.items() if not child.gone}
    return [values(item) for item in node.value] if isinstance(node.value, tuple) else node.value


def keys_of(value):
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


@calm
@given(st.lists(RAW, max_size=3))
def test_folding_changes_no_input_and_is_deterministic(raws):
    before = copy.deepcopy(raws)
    first = result(*raws)
    assert repr(raws) == repr(before)
    assert repr(result(*raws)) == repr(first)


@calm
@given(RAW, RAW)
def test_folding_leaves_what_it_folds_over_as_it_was(base, child):
    below = fold_layers(layers(base)).root
    before = repr(below)
    Folder(*layers(child), [], []).fold_root(below)
    assert repr(below) == before


@calm
@given(st.lists(RAW, min_size=1, max_size=4))
@example([{"a": [1]}, {"a": {"_append_": [{"_delete_": True, "b": {"_delete_": True}}]}}])
def test_markers_never_survive_at_any_depth(raws):
    assert not [key for key in keys_of(result(*raws)[0]) if key.startswith("_")]


@calm
@given(st.lists(RAW, max_size=3), st.integers(0, 3))
def test_folding_with_an_empty_table_is_identity(raws, place):
    assert repr(result(*raws[:place], {}, *raws[place:])[0]) == repr(result(*raws)[0])


@calm
@given(tables(KEYS, SCALARS))
def test_deleting_first_gives_what_the_file_says(raw):
    alone = result(raw)[0]
    assert repr(result({"k": 1, "a": {"z": 1}, "b": [1]}, {"_delete_": True, **raw})[0]) == repr(alone)


@calm
@given(st.lists(RAW, min_size=1, max_size=3))
def test_resolving_ends_with_a_table_and_messages_of_one_line(raws):
    folded = fold_layers(layers(*raws))
    resolver = Resolver(folded.root)
    with contextlib.suppress(UserError):
        assert isinstance(resolver.resolve(), Table)
    assert all("\n" not in str(problem) for problem in (*folded.problems, *resolver.problems))


@calm
@given(common=tables(KEYS, SCALARS), left=st.dictionaries(st.sampled_from("lmn"), st.integers()), right=st.integers())
def test_a_diamond_keeps_what_a_branch_set(tmp_path, monkeypatch, common, left, right):
    monkeypatch.chdir(tmp_path)
    plain = dict.fromkeys(["l", "m", "n", "r"], 0)
    write(tmp_path / "root.toml", plain)
    for name, changes in (("left", left), ("right", {"r": right})):
        write(tmp_path / f"{name}.toml", {"_base_": "root.toml", **changes})
    write(tmp_path / "top.toml", {"_base_": ["left.toml", "right.toml"]})
    assert load_file("top.toml").table == {**plain, **left, "r": right}


@calm
@given(raw=tables(NAMES, SCALARS.filter(lambda value: not isinstance(value, str)) | PLAIN_TEXT))
def test_dump_and_load_are_inverse(tmp_path, monkeypatch, raw):
    monkeypatch.chdir(tmp_path)
    raw.pop("plugins", None)
    folded = fold_layers(layers(raw))
    assert not folded.problems
    table = Resolver(folded.root).resolve()
    text = dump(table)
    (tmp_path / "dumped.toml").write_bytes(text.encode())
    again = load_file("dumped.toml")
    assert repr(sort(again.table.plain())) == repr(sort(table.plain()))
    assert again.warnings == ()
    assert dump(again.table) == text


@calm
@given(st.lists(st.integers(-999, 999) | st.text(ALPHABET), min_size=1).map(tuple))
def test_format_path_and_parse_path_are_inverse(path):
    assert parse_path(format_path(path)) == path


def write(path: Path, raw):
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in raw.items()))


def load_file(name):
    return load(name, resolve_dist=lambda dist, path: pytest.fail("no distribution was named"))


def sort(value):
    """Without the order of keys, which dump changes: values first, then tables."""
    if isinstance(value, dict):
        return {key: sort(value[key]) for key in sorted(value)}
    return [sort(item) for item in value] if isinstance(value, list) else value


def test_importing_is_light():
    code = "import sys, detcore.config; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pydantic", "rich", "pluggy", "numpy", "click"} & set(modules)
    assert {name for name in modules if name.startswith("detcore")} == {
        "detcore",
        "detcore.errors",
        "detcore.config",
        *(name for name in modules if name.startswith("detcore.config.")),
    }
