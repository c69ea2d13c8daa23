"""Every message: where, what was found, what would be right. One line each, never a traceback."""

from __future__ import annotations

import pytest
from detcore.config import parse_path, read_graph
from detcore.errors import ConfigError

LIST = 'x = [{type = "A"}, {type = "B"}, {type = "C"}, {type = "B"}]\n'

# name: (base.toml, child.toml without its _base_, the lines of the error)
FOLDS = {
    "a scalar over a table": (
        "[a]\nb = 1",
        "a = 1",
        "child.toml: a: a value over the table that base.toml wrote. To replace it, write `{_delete_ = true, _value_ = ...}`.",
    ),
    "a list over a table": (
        "[a]\nb = 1",
        "a = [1]",
        "child.toml: a: a list over the table that base.toml wrote. To replace it, write `{_delete_ = true, _value_ = ...}`.",
    ),
    "a table over a scalar": (
        "a = 1",
        "[a]\nb = 1",
        "child.toml: a: a table over the value that base.toml wrote. To replace it, add `_delete_ = true`.",
    ),
    "a table over a reference": (
        "v = {c = 1}\na = '${v}'",
        "[a]\nb = 1",
        "child.toml: a: a table over the value that base.toml wrote. "
        "${v} is resolved after folding: change what it names, or add `_delete_ = true`.",
    ),
    "a typed table over a list": (
        "a = [1]",
        "[a]\ntype = 'X'",
        "child.toml: a: a table with `type` over the list that base.toml wrote. "
        "To replace the list, add `_delete_ = true`; to edit its items, leave `type` out.",
    ),
    "an edit of nothing": (
        "",
        "[a]\n_append_ = [1]",
        "child.toml: a: `_append_` edits an inherited list, but nothing is inherited here",
    ),
    "an edit of a table": (
        "[a]\nb = 1",
        "[a]\n_remove_ = [1]",
        "child.toml: a: `_remove_` edits an inherited list, but here is the table that base.toml wrote",
    ),
    "an edit of a value": (
        "a = 1",
        "[a]\n_prepend_ = [1]",
        "child.toml: a: `_prepend_` edits an inherited list, but here is the value that base.toml wrote",
    ),
    "an edit of what the same table deletes": (
        "a = [1]",
        "a = {_delete_ = true, _insert_before_ = []}",
        "child.toml: a: `_insert_before_` edits an inherited list, but nothing is inherited here",
    ),
    "a wrap of nothing": (
        "",
        "a = {_wrap_ = 'b'}",
        "child.toml: a: `_wrap_` finds nothing to wrap. Name a `_base_` that has it.",
    ),
    "a wrap that deletes": (
        "a = 1",
        "a = {_wrap_ = 'b', _delete_ = true}",
        'child.toml: a: `_wrap_` stands beside `_delete_`. Write `_wrap_ = "dataset"`: what was inherited becomes the key `dataset`.',
    ),
    "a wrap by no name": (
        "a = 1",
        "a = {_wrap_ = true}",
        'child.toml: a: `_wrap_` is no name of a key. Write `_wrap_ = "dataset"`: what was inherited becomes the key `dataset`.',
    ),
    "a wrap by a marker": (
        "a = 1",
        "a = {_wrap_ = '_append_'}",
        'child.toml: a: `_wrap_` is no name of a key. Write `_wrap_ = "dataset"`: what was inherited becomes the key `dataset`.',
    ),
    "an ambiguous type": (
        LIST,
        "x.B = {n = 1}",
        "child.toml: x: 2 items of the inherited list have type B. Use 1 or 3.",
    ),
    "an unknown type": (
        LIST,
        "x.AA = {n = 1}",
        'child.toml: x: no item of the inherited list has type AA. Did you mean "A"? It has: A, B, C.',
    ),
    "a type among scalars": (
        "x = [1]",
        "x.A = 1",
        "child.toml: x: no item of the inherited list has type A. None of its items has a type.",
    ),
    "an index out of range": (
        LIST,
        "x.4 = {n = 1}",
        "child.toml: x: no item 4 in the inherited list. It has the items 0 to 3.",
    ),
    "a negative index out of range": (
        LIST,
        "x._remove_ = [-5]",
        "child.toml: x: no item -5 in the inherited list. It has the items 0 to 3.",
    ),
    "an index of an empty list": ("x = []", "x.0 = 1", "child.toml: x: no item 0 in the inherited list. It is empty."),
    "one item twice": (
        LIST,
        "x.A = {n = 1}\nx.0 = {n = 2}",
        "child.toml: x: A and 0 are the same item of the inherited list. Name it once.",
    ),
    "one item from both ends": (
        LIST,
        "x.0 = {n = 1}\nx.-4 = {n = 2}",
        "child.toml: x: 0 and -4 are the same item of the inherited list. Name it once.",
    ),
    "a place that is none": (
        LIST,
        "x._remove_ = [true]",
        "child.toml: x: True is neither an index nor a `type` of the inherited list",
    ),
    "appending no list": (LIST, "x._append_ = 1", "child.toml: x: `_append_` is not a list. Write `_append_ = [...]`."),
    "inserting without a place": (
        LIST,
        "x._insert_before_ = [{items = []}]",
        "child.toml: x: an entry of `_insert_before_` is not a table of `at` and `items`. "
        'Write `_insert_before_ = [{at = "Normalize", items = [...]}]`.',
    ),
    "a value below an item": (
        LIST,
        "x.A = 1",
        "child.toml: x.0: a value over the table that base.toml wrote. To replace it, write `{_delete_ = true, _value_ = ...}`.",
    ),
    "a misspelt marker": (
        "[a]\nb = 1",
        "a = {_detele_ = true}",
        'child.toml: a: _detele_ is no marker. Did you mean "_delete_"?',
    ),
    "an unknown marker": (
        "",
        "_qqqq_ = 1",
        "child.toml: _qqqq_ is no marker. "
        "Markers are _base_, _delete_, _value_, _none_, _wrap_, _remove_, _insert_before_, _prepend_, _append_.",
    ),
    "a marker in a list": (
        "",
        "a = [{_apend_ = 1}]",
        'child.toml: a.0: _apend_ is no marker. Did you mean "_append_"?',
    ),
    "a base below the top": ("", "[a]\n_base_ = 'x'", "child.toml: a: `_base_` belongs at the top of a file"),
    "delete that is not true": (
        "",
        "a._delete_ = 1",
        "child.toml: a: `_delete_` is not true. Write `_delete_ = true`, or leave it out.",
    ),
    "none that is not true": (
        "",
        "a._none_ = false",
        "child.toml: a: `_none_` is not true. Write `_none_ = true`, or leave it out.",
    ),
    "none beside a key": (
        "",
        "a = {_none_ = true, b = 1}",
        "child.toml: a: `_none_` stands beside b. Only `_delete_` may stand beside it.",
    ),
    "a value beside a key": (
        "a = 1",
        "a = {_delete_ = true, _value_ = 1, b = 1}",
        "child.toml: a: `_value_` stands beside b. Only `_delete_` may stand beside it.",
    ),
    "a value without delete": (
        "a = 1",
        "a = {_value_ = 1}",
        "child.toml: a: `_value_` without `_delete_`. Write `{_delete_ = true, _value_ = ...}`, or the value alone.",
    ),
    "a value that is a table": (
        "a = 1",
        "a = {_delete_ = true, _value_ = {b = 1}}",
        "child.toml: a: `_value_` is a table. Write its keys beside `_delete_ = true` instead.",
    ),
    "several at once": (
        "[a]\nb = 1\n[c]\nd = 1",
        "a = {_detele_ = true}\nc = {d = {e = 1}}",
        'child.toml: a: _detele_ is no marker. Did you mean "_delete_"?\n'
        "child.toml: c.d: a table over the value that base.toml wrote. To replace it, add `_delete_ = true`.",
    ),
    "tables too deep": (
        "",
        ".".join("a" * 70) + " = 1",
        "child.toml: a.a.a.a: tables nested more than 64 levels deep begin here",
    ),
    "an unknown reference": (
        "data_root = 1",
        "a.b = '${data_rot}/x'",
        'child.toml: a.b: `${data_rot}` names no key. Did you mean "data_root"?',
    ),
    "an unknown nested reference": (
        "[model.neck]\nout = 1",
        "a = ['${model.nek.out}']",
        'child.toml: a.0: `${model.nek.out}` names no key. Did you mean "model.neck.out"?',
    ),
    "a reference to what was deleted": (
        "b = 1",
        "b = {_delete_ = true}\na = '${b}'",
        "child.toml: a: `${b}` names no key",
    ),
    "a reference past a list": (
        "b = [1]",
        "zz = '${b.1}'",
        'child.toml: zz: `${b.1}` names no key. Did you mean "b.0"?',
    ),
    "an empty reference": (
        "",
        "a = '${}'",
        "child.toml: a: `${}` is no reference: expected a key, found nothing. Write `${data_root}`.",
    ),
    "a reference left open": ("", "a = '${b'", "child.toml: a: `${` without its `}`. A literal `${` is written `$${`."),
    "a reference in a reference": (
        "b = 1",
        "a = '${env:X:${b}}'",
        "child.toml: a: a reference within a reference. A literal `${` is written `$${`.",
    ),
    "a table in text": (
        "[b]\nc = 1",
        "a = 'x${b}'",
        "child.toml: a: `${b}` is a table. Only text, numbers, booleans and dates can stand within a longer string.",
    ),
    "a list in text": (
        "b = [1]",
        "a = 'x${b}'",
        "child.toml: a: `${b}` is a list. Only text, numbers, booleans and dates can stand within a longer string.",
    ),
    "None in text": (
        "b = {_none_ = true}",
        "a = 'x${b}'",
        "child.toml: a: `${b}` is none. Only text, numbers, booleans and dates can stand within a longer string.",
    ),
    "a cycle of references": (
        "b = '${c}/x'\nc = '${a}'",
        "a = '${b}'\nd = '${a}'",
        "child.toml: a: a cycle of references: a -> b -> c -> a",
    ),
    "a table that holds itself": ("", "a.b = '${a}'", "child.toml: a.b: a cycle of references: a.b -> a.b"),
    "a cycle on the way": ("", "a = '${b.x}'\nb = '${a}'", "child.toml: a: a cycle of references: a -> b -> a"),
    "several references at once": (
        "",
        "a = '${x1}'\nb = '${env:DETCORE_NONE}'",
        "child.toml: a: `${x1}` names no key\n"
        "child.toml: b: the environment has no variable DETCORE_NONE. Set it, or give a default: `${env:DETCORE_NONE:default}`.",
    ),
    "an environment without a name": (
        "",
        "a = '${env:}'",
        "child.toml: a: no name after `env:`. Write `${env:NAME}` or `${env:NAME:default}`.",
    ),
    "references too long": (
        "",
        "\n".join(f"a{i} = '${{a{i + 1}}}'" for i in range(70)) + "\na70 = 1",
        None,
    ),
    "copies too deep": ("", "\n".join(f"a{i}.b.c = '${{a{i + 1}}}'" for i in range(40)) + "\na40 = 1", None),
    "an unknown key of plugins": (
        "",
        "[plugins]\nlocals = []",
        'child.toml: plugins.locals: not a key of [plugins]. Did you mean "local"? It takes: local, block.',
    ),
    "plugins that are no list": (
        "",
        "plugins.block = 'a'",
        'child.toml: plugins.block: not a list of strings. Write block = ["..."].',
    ),
    "plugins that are no table": (
        "",
        "plugins = 1",
        "child.toml: plugins: not a table. Write a table [plugins] with `local` and `block`.",
    ),
    "a reference in plugins": (
        "",
        "root = 'x'\n[plugins]\nlocal = ['${root}/a.py']",
        "child.toml: plugins.local.0: `${root}` names no key. "
        "[plugins] is read before the rest: only `${here}` and `${env:NAME}` can stand in it.",
    ),
}


@pytest.mark.parametrize("name", FOLDS)
def test_folding_and_references(name, fault, monkeypatch):
    monkeypatch.delenv("DETCORE_NONE", raising=False)
    base, child, expected = FOLDS[name]
    found = fault({"base.toml": base, "child.toml": '_base_ = "base.toml"\n' + child})
    if expected is not None:
        assert found == expected.splitlines()


def test_chains_of_references_end(fault):
    long = FOLDS["references too long"][1]
    assert "child.toml: a64: more than 64 references lead from one to the next" not in fault({"child.toml": "a='${}'"})
    assert any(line.endswith("more than 64 references lead from one to the next") for line in fault({"a.toml": long}))
    deep = FOLDS["copies too deep"][1]
    assert any(line.endswith("references nest tables more than 64 levels deep") for line in fault({"a.toml": deep}))
    hops = "\n".join(f"a{i} = '${{a{i + 1}.x}}'" for i in range(70)) + "\na70 = 1"
    assert any("more than 64 references" in line for line in fault({"a.toml": hops}))


# name: (files, the named one last; the lines of the error)
FILES = {
    "a missing base": (
        {"_base_/fpn.toml": "", "a.toml": "_base_ = '_base_/fnp.toml'"},
        'a.toml: _base_: "_base_/fnp.toml" leads to _base_/fnp.toml, which does not exist. Did you mean "fpn.toml"?',
    ),
    "missing bases, all of them": (
        {"a.toml": "_base_ = ['xxx.toml', 'q/y.toml']"},
        'a.toml: _base_: "xxx.toml" leads to xxx.toml, which does not exist\n'
        'a.toml: _base_: "q/y.toml" leads to q/y.toml, which does not exist',
    ),
    "a distribution that is not there": (
        {"a.toml": "_base_ = 'other::x.toml'"},
        'a.toml: _base_: "other::x.toml" cannot be found: no distribution other is installed. Install it.',
    ),
    "a cycle": (
        {"b.toml": "_base_ = 'a.toml'", "a.toml": "_base_ = 'b.toml'"},
        "b.toml: _base_: a cycle of `_base_`: a.toml -> b.toml -> a.toml. One of them has to go.",
    ),
    "a file that is its own base": (
        {"a.toml": "_base_ = './a.toml'"},
        "a.toml: _base_: a cycle of `_base_`: a.toml -> a.toml. One of them has to go.",
    ),
    "a cycle further down": (
        {"c.toml": "_base_ = 'b.toml'", "b.toml": "_base_ = 'c.toml'", "a.toml": "_base_ = 'b.toml'"},
        "c.toml: _base_: a cycle of `_base_`: b.toml -> c.toml -> b.toml. One of them has to go.",
    ),
    "a base that is a folder": (
        {"d/x": "", "a.toml": "_base_ = 'd'"},
        "a.toml: _base_: d is a folder. Name a TOML file.",
    ),
    "a file as a folder": (
        {"b.toml": "", "a.toml": "_base_ = 'b.toml/c.toml'"},
        "a.toml: _base_: b.toml/c.toml cannot be read (Not a directory)",
    ),
    "a base that is a number": (
        {"a.toml": "_base_ = 3"},
        "a.toml: _base_: 3 is no path. `_base_` is a path or a list of paths.",
    ),
    "an empty base": (
        {"a.toml": "_base_ = ['']"},
        "a.toml: _base_: '' is no path. `_base_` is a path or a list of paths.",
    ),
    "a NUL in a base": ({"a.toml": '_base_ = "a\\u0000b"'}, 'a.toml: _base_: "a\\u0000b" is no path'),
    "a reference in a base": (
        {"a.toml": "_base_ = '${here}/b.toml'"},
        'a.toml: _base_: a reference in "${here}/b.toml". `_base_` is read before they are resolved.',
    ),
    "no TOML": ({"a.toml": "a = 1\nb = = 2"}, "a.toml:2: not TOML: Invalid value (column 5)"),
    "a key twice": ({"b.toml": "a = 1\na = 2", "a.toml": "_base_ = 'b.toml'"}, None),
    "not UTF-8": ({"a.toml": b"a = 1\nb = '\xff'"}, "a.toml:2: not UTF-8. Save the file in the encoding UTF-8."),
    "UTF-16": ({"a.toml": "a = 1".encode("utf-16")}, "a.toml:1: not UTF-8. Save the file in the encoding UTF-8."),
    "brackets too deep": ({"a.toml": "a = " + "[" * 9000}, "a.toml: not TOML: nested too deeply"),
    "an integer too long": ({"a.toml": "a = " + "9" * 9000}, None),
    "bases too deep": ({f"{i}.toml": f"_base_ = '{i + 1}.toml'" for i in range(70, -1, -1)}, None),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name, fault):
    files, expected = FILES[name]
    found = fault(files)
    if expected is not None:
        assert found == expected.splitlines()
    else:
        assert len(found) == 1
        assert found[0].split(":")[0].endswith(".toml")


def test_the_named_file(fault):
    assert fault({"fcos.toml": ""}, source="fcso.toml") == ['fcso.toml: no such file. Did you mean "fcos.toml"?']
    assert fault({"configs/a.toml": ""}, source="configs") == ["configs: is a folder. Name a TOML file."]
    assert fault({}, source="other::x.toml") == ["other::x.toml: no distribution other is installed. Install it."]
    (line,) = fault({"a.toml": ""}, source="./")
    assert line.endswith("is a folder. Name a TOML file.")


def test_a_ring_of_links_is_no_traceback(fault, tmp_path):
    (tmp_path / "l.toml").symlink_to("m.toml")
    (tmp_path / "m.toml").symlink_to("l.toml")
    assert len(fault({"a.toml": "_base_ = 'l.toml'"})) == 1


def test_a_file_that_cannot_be_read(fault):
    name = "x" * 300 + ".toml"
    assert fault({"a.toml": f"_base_ = '{name}'"}) == [f"a.toml: _base_: {name} cannot be read (File name too long)"]


def test_a_working_folder_that_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match=r"a\.toml: the working folder no longer exists"):
        read_graph("a.toml", resolve_dist=lambda dist, path: tmp_path)


SETS = {
    "lr=.02": """.02 is not how TOML writes it. TOML writes --set 'lr=0.02', or as a string --set 'lr=".02"'.""",
    "lr=1.": """1. is not how TOML writes it. TOML writes --set 'lr=1.0', or as a string --set 'lr="1."'.""",
    "n=01": """01 is not how TOML writes it. TOML writes --set 'n=1', or as a string --set 'n="01"'.""",
    "n=0X1F": """0X1F is not how TOML writes it. TOML writes --set 'n=31', or as a string --set 'n="0X1F"'.""",
    "n=NaN": """NaN is not how TOML writes it. TOML writes --set 'n=nan', or as a string --set 'n="NaN"'.""",
    "b=True": """True is not how TOML writes it. TOML writes --set 'b=true', or as a string --set 'b="True"'.""",
    "b=None": """None is not how TOML writes it. TOML writes --set 'b={_none_ = true}', or as a string --set 'b="None"'.""",
    "b=null": """null is not how TOML writes it. TOML writes --set 'b={_none_ = true}', or as a string --set 'b="null"'.""",
    "b=": """no value after `=`. For an empty string: --set 'b=""'.""",
    "b= ": """no value after `=`. For an empty string: --set 'b=""'.""",
    "b=a b": '"a b" is no TOML value. '
    "A string that holds quotes, brackets, braces, commas or blanks is quoted: --set 'b=\"...\"'.",
    "b=[1, 2": '"[1, 2" is no TOML value. '
    "A string that holds quotes, brackets, braces, commas or blanks is quoted: --set 'b=\"...\"'.",
    "b=5 # five": '"5 # five" is no TOML value. '
    "A string that holds quotes, brackets, braces, commas or blanks is quoted: --set 'b=\"...\"'.",
    "b=1,2": '"1,2" is no TOML value. '
    "A string that holds quotes, brackets, braces, commas or blanks is quoted: --set 'b=\"...\"'.",
    "b": 'no `=`. Write KEY=VALUE; odd keys are quoted: a."odd.key"=1.',
    "b c=1": '"c=1" follows the key. Write KEY=VALUE; odd keys are quoted: a."odd.key"=1.',
    "": "expected a key, found nothing. Write KEY=VALUE.",
    "a..b=1": 'expected a key, found ".b=1". Write KEY=VALUE.',
    "=1": 'expected a key, found "=1". Write KEY=VALUE.',
    "a\ud800=1": "not UTF-8",
}


@pytest.mark.parametrize("option", SETS)
def test_options(option, fault):
    shown = option.encode(errors="replace").decode().strip()
    assert fault({"a.toml": ""}, option) == [f"option --set {shown}: {SETS[option]}"]


def test_an_option_stays_on_one_line(fault):
    assert fault({"a.toml": ""}, "a=1\n[b]\nc=1") == [
        'option --set a=1 [b] c=1: "1\\n[b]\\nc=1" is no TOML value. '
        "A string that holds quotes, brackets, braces, commas or blanks is quoted: --set 'a=\"...\"'."
    ]


@pytest.mark.parametrize("name", ["", "a b", '"A"', "a=b"])
def test_swap_wants_a_name(name, fault):
    (line,) = fault({"a.toml": ""}, swaps=(f"model.neck={name}",))
    assert line.endswith("is no component's name. Write --swap model.neck=NAME.")


def test_options_meet_the_rules_of_folding(fault):
    assert fault({"a.toml": "a = 1"}, "a.b=2", "x", "y=") == [
        'option --set x: no `=`. Write KEY=VALUE; odd keys are quoted: a."odd.key"=1.',
        """option --set y=: no value after `=`. For an empty string: --set 'y=""'.""",
    ]
    assert fault({"a.toml": "a = 1"}, "a.b=2") == [
        "option --set a.b=2: a: a table over the value that a.toml wrote. To replace it, add `_delete_ = true`."
    ]
    assert fault({"a.toml": ""}, "_base_=x") == ["option --set _base_=x: `_base_` belongs at the top of a file"]


def test_the_environment_may_hold_no_utf8(fault, monkeypatch):
    monkeypatch.setenv("DETCORE_T", "\udcff")
    assert fault({"a.toml": "a = '${env:DETCORE_T}'"}) == ["a.toml: a: the environment's DETCORE_T is not UTF-8"]


@pytest.mark.parametrize("text", ["", "a..b", "a b", "a.", 'a."x', "a=1", "köpf", '"\\q"'])
def test_a_path_that_is_none(text):
    with pytest.raises(ConfigError, match=r"^key "):
        parse_path(text)
