"""A row per sentence of the design's section on configs."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from detcore.config import Origin, Setting, diff, dump, format_path, parse_path, read_graph

LIST = 'x = [{type = "A", n = 1}, {type = "B", n = 2}, {type = "C", n = 3}, {type = "B", n = 4}]\n'
CHILD = '_base_ = "base.toml"\n'

# name: (base.toml, child.toml without its _base_, the folded result)
FOLDS = {
    "table into table merges by key": ("[a]\nb = 1\nc = 2", "[a]\nc = 3\nd = 4", {"a": {"b": 1, "c": 3, "d": 4}}),
    "value over value replaces": ("a = 1\nb = 'x'", "a = 2.5\nb = false", {"a": 2.5, "b": False}),
    "list over list replaces": ("a = [1, 2, 3]", "a = [4]", {"a": [4]}),
    "list over scalar, scalar over list": ("a = 1\nb = [1]", "a = [1]\nb = 1", {"a": [1], "b": 1}),
    "delete drops what was inherited first": ("[a]\nb = 1\nc = 2", "[a]\n_delete_ = true\nc = 3", {"a": {"c": 3}}),
    "delete at any depth": (
        "[a.b.c]\nd = 1\ne = 2",
        "[a.b]\nc = {_delete_ = true, e = 3}",
        {"a": {"b": {"c": {"e": 3}}}},
    ),
    "delete at the root": ("a = 1\n[b]\nc = 1", "_delete_ = true\nd = 1", {"d": 1}),
    "delete alone removes a table": ("a = 1\n[b]\nc = 1", "b = {_delete_ = true}", {"a": 1}),
    "delete alone removes a scalar": ("a = 1\nb = 1", "b = {_delete_ = true}", {"a": 1}),
    "delete alone removes a list": ("a = 1\nb = [1]", "b = {_delete_ = true}", {"a": 1}),
    "a scalar replaces a table": ("[a]\nb = 1", "a = {_delete_ = true, _value_ = 3}", {"a": 3}),
    "a list replaces a table": ("[a]\nb = 1", "a = {_delete_ = true, _value_ = [{c = 1}]}", {"a": [{"c": 1}]}),
    "None replaces a table": ("[a]\nb = 1", "a = {_delete_ = true, _none_ = true}", {"a": None}),
    "None replaces a table as a value": ("[a]\nb = 1", "a = {_delete_ = true, _value_ = {_none_ = true}}", {"a": None}),
    "a table replaces a scalar": ("a = 1", "a = {_delete_ = true, b = 1}", {"a": {"b": 1}}),
    "a table with type replaces a list": ("a = [1]", "a = {_delete_ = true, type = 'A'}", {"a": {"type": "A"}}),
    "a table without type replaces a list": ("a = [1]", "a = {_delete_ = true, b = 1}", {"a": {"b": 1}}),
    "none is None": ("a = 1", "a = {_none_ = true}\nb = [{_none_ = true}]", {"a": None, "b": [None]}),
    "a value over None": ("a = {_none_ = true}", "a = 2", {"a": 2}),
    "wrap puts what was inherited one level deeper": (
        "[a]\ntype = 'A'\nb = {c = 1, d = 2}",
        "[a]\n_wrap_ = 'inner'\ntype = 'B'\nn = 3",
        {"a": {"inner": {"type": "A", "b": {"c": 1, "d": 2}}, "type": "B", "n": 3}},
    ),
    "wrap and change what is wrapped": (
        "[a]\ntype = 'A'\nb = {c = 1, d = 2}",
        "[a]\n_wrap_ = 'inner'\ntype = 'B'\ninner.b.c = 9",
        {"a": {"inner": {"type": "A", "b": {"c": 9, "d": 2}}, "type": "B"}},
    ),
    "wrap a list, wrap a value": (
        "a = [1, 2]\nb = 3",
        "a = {_wrap_ = 'of', type = 'A', of._append_ = [4]}\nb = {_wrap_ = 'x'}",
        {"a": {"of": [1, 2, 4], "type": "A"}, "b": {"x": 3}},
    ),
    "a deleted key takes its place anew": (
        "[c.a]\nn = 1\n[c.b]\nn = 2",
        "[c]\n_delete_ = true\nb = {n = 3}\na = {n = 4}",
        {"c": {"b": {"n": 3}, "a": {"n": 4}}},
    ),
    "an edit by index": (LIST, "[x.1]\nn = 9", [("A", 1), ("B", 9), ("C", 3), ("B", 4)]),
    "an edit by negative index": (LIST, "[x.-1]\nn = 9", [("A", 1), ("B", 2), ("C", 3), ("B", 9)]),
    "an edit by type": (LIST, "[x.C]\nn = 9", [("A", 1), ("B", 2), ("C", 9), ("B", 4)]),
    "an edit may change the type": (LIST, "[x.C]\ntype = 'D'", [("A", 1), ("B", 2), ("D", 3), ("B", 4)]),
    "an edit with delete": (
        LIST,
        "[x.C]\n_delete_ = true\ntype = 'D'\nn = 0",
        [("A", 1), ("B", 2), ("D", 0), ("B", 4)],
    ),
    "an edit that only deletes": (LIST, "x.C = {_delete_ = true}", [("A", 1), ("B", 2), ("B", 4)]),
    "keys refer to the inherited list": (
        LIST,
        "[x]\n0 = {_delete_ = true}\n1 = {n = 8}\nC = {n = 9}",
        [("B", 8), ("C", 9), ("B", 4)],
    ),
    "remove": (LIST, "[x]\n_remove_ = ['C', 0]", [("B", 2), ("B", 4)]),
    "insert before": (
        LIST,
        "[x]\n_insert_before_ = [{at = 'C', items = [{type = 'D', n = 5}]}, {at = 0, items = [{type = 'E', n = 6}]}]",
        [("E", 6), ("A", 1), ("B", 2), ("D", 5), ("C", 3), ("B", 4)],
    ),
    "insert twice at one place": (
        LIST,
        "[x]\n_insert_before_ = [{at = 0, items = [{type='D', n=5}]}, {at = 'A', items = [{type='E', n=6}]}]",
        [("D", 5), ("E", 6), ("A", 1), ("B", 2), ("C", 3), ("B", 4)],
    ),
    "insert before the last": (
        LIST,
        "x._insert_before_ = [{at = -1, items = [{type = 'D', n = 5}]}]",
        [("A", 1), ("B", 2), ("C", 3), ("D", 5), ("B", 4)],
    ),
    "prepend and append": (
        LIST,
        "[x]\n_append_ = [{type = 'D', n = 5}]\n_prepend_ = [{type = 'E', n = 6}, {type = 'F', n = 7}]",
        [("E", 6), ("F", 7), ("A", 1), ("B", 2), ("C", 3), ("B", 4), ("D", 5)],
    ),
    "all edits at once, in their order": (
        LIST,
        """
        [x]
        A = {n = 9}
        _remove_ = [1, "C"]
        _insert_before_ = [{at = "C", items = [{type = "D", n = 5}]}]
        _prepend_ = [{type = "E", n = 6}]
        _append_ = [{type = "F", n = 7}]
        """,
        [("E", 6), ("A", 9), ("D", 5), ("B", 4), ("F", 7)],
    ),
    "scalars in lists": ("a = [1, 2, 3]", "a = {1 = 9, _remove_ = [0], _append_ = [4]}", {"a": [9, 3, 4]}),
    "an empty edit": ("a = [1, 2]", "a = {}", {"a": [1, 2]}),
    "lists in lists": ("a = [[1, 2], [3]]", "a.0.1 = 9", {"a": [[1, 9], [3]]}),
    "edits below edits": ("a = [{type = 'A', b = [1, 2]}]", "a.A.b.0 = 9", {"a": [{"type": "A", "b": [9, 2]}]}),
    "an index where nothing was is a key": ("", "a.0 = 1", {"a": {"0": 1}}),
    "a reference": ("root = 'data'", "f = '${root}/train.json'", {"root": "data", "f": "data/train.json"}),
    "resolved after folding": ("root = 'a'\nf = '${root}/x'", "root = 'b'", {"root": "b", "f": "b/x"}),
    "an exact reference keeps the type": ("n = 5\nb = true\nf = 0.1", "x = ['${n}', '${b}', '${ f }']", None),
    "of a table, of a list": (
        "",
        "t = {a = [1]}\nx = '${t}'\ny = '${t.a}'",
        {"t": {"a": [1]}, "x": {"a": [1]}, "y": [1]},
    ),
    "through a list": ("", "t = [{a = 1}, {a = 2}]\nx = '${t.0.a}${t.-1.a}'", {"t": [{"a": 1}, {"a": 2}], "x": "12"}),
    "through a reference": (
        "",
        "a = {b = 1}\nc = '${a}'\nd = '${c.b}'\ne = '${d}'",
        {"a": {"b": 1}, "c": {"b": 1}, "d": 1, "e": 1},
    ),
    "back into a copied table": (
        "",
        "a = '${b}'\nb = {x = 1, y = '${a.x}'}",
        {"a": {"x": 1, "y": 1}, "b": {"x": 1, "y": 1}},
    ),
    "of None": ("", "a = {_none_ = true}\nb = '${a}'", {"a": None, "b": None}),
    "odd keys": ("", "'a.b' = {'}\"' = 3}\nx = '''${\"a.b\".'}\"'}'''", {"a.b": {'}"': 3}, "x": 3}),
    "numbers and booleans in text": ("", "a = true\nb = 0.5\nc = '${a}-${b}'", {"a": True, "b": 0.5, "c": "true-0.5"}),
    "a literal": (
        "",
        "a = '$${x}'\nb = '$$${x}'\nc = '$x {y} $'\nd = ''",
        {"a": "${x}", "b": "$${x}", "c": "$x {y} $", "d": ""},
    ),
    "resolved once": ("", "a = '$${b}'\nb = '${a}'", {"a": "${b}", "b": "${b}"}),
    "the environment": ("", "a = '${env:DETCORE_T}'\nb = '${env:DETCORE_NONE:x:y}'", {"a": "set", "b": "x:y"}),
    "an empty default": ("", "a = '${env:DETCORE_NONE:}'\nb = \"${env:DETCORE_NONE:it's}\"", {"a": "", "b": "it's"}),
    "dates": ("", "a = 2024-05-17\nb = 07:32:00", {"a": datetime.date(2024, 5, 17), "b": datetime.time(7, 32)}),
    "keys with dots and quotes": ("'a.b'.'c\"d' = 1", "'a.b'.'c\"d' = 2", {"a.b": {'c"d': 2}}),
}


@pytest.mark.parametrize("name", FOLDS)
def test_folding(name, loader, monkeypatch):
    monkeypatch.setenv("DETCORE_T", "set")
    base, child, expected = FOLDS[name]
    table = loader({"base.toml": base, "child.toml": CHILD + child}).table.plain()
    if isinstance(expected, list):  # edits of LIST
        expected = {"x": [{"type": kind, "n": number} for kind, number in expected]}
    if expected is None:
        table, expected = table["x"], [5, True, 0.1]
    assert repr(table) == repr(expected)  # types and order count


DIAMOND = {
    "root.toml": "a = 1\nb = 1\nc = 1",
    "left.toml": "_base_ = 'root.toml'\na = 2",
    "right.toml": "_base_ = 'root.toml'\nb = 2",
    "top.toml": "_base_ = ['left.toml', 'right.toml']\nc = 2",
}


def test_in_a_diamond_nothing_that_one_branch_set_is_undone(loader):
    config = loader(DIAMOND)
    assert [path.name for path in config.graph.files] == ["root.toml", "left.toml", "right.toml", "top.toml"]
    assert config.table.plain() == {"a": 2, "b": 2, "c": 2}


def test_each_file_is_taken_at_its_first_place(loader):
    files = {
        "a.toml": "x = 1",
        "b.toml": "_base_ = 'a.toml'\nx = 2",
        "top.toml": "_base_ = ['a.toml', 'b.toml', 'a.toml']",
    }
    config = loader(files)
    assert [path.name for path in config.graph.files] == ["a.toml", "b.toml", "top.toml"]
    assert config.table["x"] == 2


def test_bases_are_relative_to_their_file_to_home_or_to_a_distribution(loader, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    files = {
        "home/h.toml": "h = 1",
        "dist/sub/d.toml": "_base_ = 'e.toml'\nd = 1",
        "dist/sub/e.toml": "e = 1",
        "lib/r.toml": "r = 1",
        "configs/top.toml": "_base_ = ['../lib/r.toml', '~/h.toml', 'detcore-x::sub/d.toml']",
    }
    assert loader(files).table.plain() == {"r": 1, "h": 1, "e": 1, "d": 1}
    assert loader({}, source="detcore-x::sub/d.toml").table.plain() == {"e": 1, "d": 1}


def test_one_file_under_two_names_is_one_file(loader, tmp_path):
    (tmp_path / "link.toml").symlink_to("base.toml")
    files = {"base.toml": "x = [1]", "other.toml": "_base_ = 'base.toml'\nx = [2]"}
    files["top.toml"] = "_base_ = ['other.toml', './link.toml', 'sub/../base.toml']"
    (tmp_path / "sub").mkdir()
    assert loader(files).table.plain() == {"x": [2]}


def test_a_byte_order_mark_and_windows_lines_are_no_harm(loader):
    assert loader({"a.toml": b"\xef\xbb\xbfa = 1\r\nb = 2\r\n"}).table.plain() == {"a": 1, "b": 2}


def test_delete_with_nothing_to_delete_warns_and_leaves_no_marker(loader):
    config = loader(
        {"a.toml": "[a.b]\n_delete_ = true\nc = [{_delete_ = true}, {_delete_ = true, d = 1}]\ne = {_delete_ = true}"}
    )
    assert config.table.plain() == {"a": {"b": {"c": [{"d": 1}]}}}
    assert config.warnings == tuple(
        f"a.toml: {key}: `_delete_` finds nothing to delete" for key in ("a.b", "a.b.c.0", "a.b.c.1", "a.b.e")
    )


def test_here_is_the_folder_of_the_file_that_wrote_it(loader, tmp_path):
    files = {
        "lib/base.toml": "a = '${here}/x'\nb = ['${here}']\nc = '${a}'",
        "run/top.toml": "_base_ = '../lib/base.toml'\nd = '${here}'",
    }
    table = loader(files, "e='${here}'").table.plain()
    lib, run = str(tmp_path / "lib"), str(tmp_path / "run")
    assert table == {"a": f"{lib}/x", "b": [lib], "c": f"{lib}/x", "d": run, "e": str(tmp_path)}


def test_what_a_reference_reads_counts_as_read(loader):
    text = """
    [vars]
    n = {m = 1}
    unused = 1
    [paths]
    root = "x"
    other = 1
    [whole]
    a = {b = 1}
    [d]
    root = "${paths.root}"
    copy = "${whole}"
    """
    read = {format_path(path) for path in loader({"a.toml": text}).read}
    of_vars = {"vars", "vars.n", "vars.n.m", "vars.unused"}
    assert read == of_vars | {"paths", "paths.root", "whole", "whole.a", "whole.a.b"}


def test_plugins_are_known_before_the_rest_is_folded(loader, tmp_path, monkeypatch):
    monkeypatch.setenv("DETCORE_T", "/abs")
    files = {
        "lib/base.toml": "[plugins]\nlocal = ['./head.py', '${here}/neck.py', '${env:DETCORE_T}/x.py', '../up.py']\nblock = ['a']",
        "top.toml": "_base_ = 'lib/base.toml'\n[plugins.local]\n_append_ = ['own.py']\n[broken]\nx = '${nowhere}'",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    graph = read_graph("top.toml", sets=["plugins.block=['b']"], resolve_dist=lambda dist, path: Path())
    lib = tmp_path / "lib"
    local = [f"{lib}/head.py", f"{lib}/neck.py", "/abs/x.py", f"{tmp_path}/up.py", f"{tmp_path}/own.py"]
    assert graph.plugins.plain() == {"local": local, "block": ["b"]}
    assert graph.plugins.where("block") == "option --set plugins.block=['b']: plugins.block"
    config = loader({"top.toml": files["top.toml"].split("[broken]")[0]})
    assert config.table["plugins"]["local"] == tuple(local)


SETS = {
    "lr=0.02": {"lr": 0.02},
    "lr = 1e-4": {"lr": 1e-4},
    "n=5": {"n": 5},
    "n=true": {"n": True},
    "n=[1, [2]]": {"n": [1, [2]]},
    "n={a = 1}": {"n": {"a": 1}},
    "n={_none_ = true}": {"n": None},
    "n=''": {"n": ""},
    'n="a b"': {"n": "a b"},
    "n=TinyNet": {"n": "TinyNet"},
    "n=detcore-fcos/FCOSAssigner": {"n": "detcore-fcos/FCOSAssigner"},
    "n=a=b": {"n": "a=b"},
    "n=5#b": {"n": "5#b"},
    "n=#fff": {"n": "#fff"},
    "n=1x": {"n": "1x"},
    "n=1.2.3": {"n": "1.2.3"},
    "n=./a.toml": {"n": "./a.toml"},
    "n=inf": {"n": float("inf")},
    "n=2024-01-02": {"n": datetime.date(2024, 1, 2)},
    "a.b.c=1": {"a": {"b": {"c": 1}}},
    'a."b.c"=1': {"a": {"b.c": 1}},
    "a.'x=y'.0=1": {"a": {"x=y": {"0": 1}}},
}


@pytest.mark.parametrize("option", SETS)
def test_the_value_of_set_is_toml_or_a_bare_string(option, loader):
    assert repr(loader({"a.toml": ""}, option).table.plain()) == repr(SETS[option])


def test_set_reaches_into_lists_and_makes_new_keys(loader):
    options = ["x.0.n=8", "x.C.n=9", "x._remove_=[1]", "x.-1={_delete_=true, type='Z'}", "new.a.b=1"]
    table = loader({"a.toml": LIST}, *options).table.plain()
    assert table["x"] == [{"type": "A", "n": 8}, {"type": "C", "n": 9}, {"type": "Z"}]
    assert table["new"] == {"a": {"b": 1}}


def test_swap_replaces_a_component_and_set_then_sets_its_keys(loader):
    files = {"a.toml": "[model.backbone]\ntype = 'ResNet'\ndepth = 50"}
    config = loader(files, "model.backbone.width=3", swaps=("model.backbone=TinyNet",))
    same = loader(files, 'model.backbone={_delete_=true, type="TinyNet"}', "model.backbone.width=3")
    assert config.table.plain() == same.table.plain() == {"model": {"backbone": {"type": "TinyNet", "width": 3}}}
    assert config.table["model"].origin("backbone") == Origin("option --swap model.backbone=TinyNet")


STORY = {
    "_base_/fpn.toml": "[model.neck]\ntype = 'FPN'\nnum_outs = 5\nout = 256\n[data]\nlist = [1]",
    "mid.toml": "_base_ = '_base_/fpn.toml'\n[model.neck]\nnum_outs = 4",
    "top.toml": "_base_ = 'mid.toml'\n[model.neck]\n_delete_ = true\ntype = 'PAFPN'\nout = 128\n[data.list]\n_append_ = [2]",
}


def test_every_leaf_remembers_who_set_it(loader):
    neck = loader(STORY, "model.neck.num_outs=3").table["model"]["neck"]
    assert neck.origin("type") == neck.origin("out") == Origin("top.toml")
    assert neck.where("num_outs") == "option --set model.neck.num_outs=3: model.neck.num_outs"
    assert neck.where("missing") == "top.toml: model.neck.missing"
    assert neck.where() == "top.toml: model.neck"
    mid = loader(STORY, source="mid.toml").table
    assert mid["model"].origin("neck") == Origin("_base_/fpn.toml")  # which set its type
    assert mid.origin("model") == Origin("mid.toml")
    assert mid.where("nothing") == "mid.toml: nothing"
    assert mid.where() == "mid.toml"


def test_what_is_wrapped_may_be_wrapped_again_and_remembers_who_set_it(loader):
    files = {
        "base.toml": "[model]\ntype = 'OneStage'\nn = 1",
        "first.toml": "_base_ = 'base.toml'\nmodel = {_wrap_ = 'detector', type = 'TTA'}",
        "second.toml": "_base_ = 'first.toml'\nmodel = {_wrap_ = 'one', type = 'Pair'}",
    }
    config = loader(files, "model.one.detector.n=2")
    wrapped = {"one": {"detector": {"type": "OneStage", "n": 2}, "type": "TTA"}, "type": "Pair"}
    assert config.table.plain() == {"model": wrapped}
    model = config.table["model"]
    assert [each.origin("type").file for each in (model, model["one"], model["one"]["detector"])] == [
        "second.toml",
        "first.toml",
        "base.toml",
    ]
    assert [setting.value for setting in config.history(("model", "one", "detector", "n"))] == [1, 2]
    option = loader({}, 'model={_wrap_="one", type="Pair"}', source="first.toml")
    assert option.table.plain() == loader({}, source="second.toml").table.plain()


def test_history_is_the_whole_chain(loader):
    config = loader(STORY, "model.neck.num_outs=3")

    def chain(key):
        return [(setting.value, setting.origin.file) for setting in config.history(parse_path(key))]

    option = "option --set model.neck.num_outs=3"
    removed = ({"_delete_": True}, "top.toml")
    assert chain("model.neck.num_outs") == [(5, "_base_/fpn.toml"), (4, "mid.toml"), removed, (3, option)]
    assert chain("model.neck.type") == [("FPN", "_base_/fpn.toml"), ("PAFPN", "top.toml")]
    assert chain("data.list") == [([1], "_base_/fpn.toml"), ({"_append_": [2]}, "top.toml")]
    assert chain("data.list.1") == [(2, "top.toml")]
    assert chain("model.neck.never") == chain("data.list.9") == chain("data.list.x") == []
    gone = loader(STORY)
    assert "num_outs" not in gone.table["model"]["neck"]
    assert gone.history(("model", "neck", "num_outs"))[-1] == Setting({"_delete_": True}, Origin("top.toml"))


def test_what_history_returns_cannot_change_the_config(loader):
    config = loader(STORY)
    config.history(("data", "list"))[0].value.append(7)
    assert config.history(("data", "list"))[0].value == [1]


def test_a_copied_table_keeps_the_files_that_wrote_its_keys(loader):
    files = {
        "vars.toml": "[vars.neck]\ntype = 'FPN'\nn = 5",
        "top.toml": "_base_ = 'vars.toml'\n[model]\nneck = '${vars.neck}'",
    }
    config = loader(files)
    model = config.table["model"]
    assert model.where("neck") == "top.toml: model.neck"
    assert model["neck"].path == ("model", "neck")
    assert model["neck"].origin("n") == Origin("vars.toml")
    assert model["neck"].where("n") == "vars.toml: model.neck.n (copied from vars.neck.n)"
    assert (model["neck"].home, model.home) == ("vars.neck", "model")
    assert [setting.value for setting in config.history(("model", "neck", "n"))] == [5]
    assert [setting.value for setting in config.history(("model", "neck"))] == ["${vars.neck}"]


def test_diff_lists_the_leaves_that_differ(loader):
    left = loader({"l.toml": "a = 1\nb = 1\n[t]\nx = [1, 2]\nsame = nan\n[gone]\ny = 1"}).table
    right = loader({"r.toml": "a = 1\nb = 1.0\nempty = {}\n[t]\nx = [1, 3, 4]\nsame = nan"}).table
    changes = diff(left, right)
    assert [format_path(change.path) for change in changes] == ["b", "t.x.1", "gone.y", "empty", "t.x.2"]
    assert [change.right is None for change in changes] == [False, False, True, False, False]
    assert [change.left is None for change in changes] == [False, False, False, True, True]
    first = diff(left, right)[0]
    assert first.left == Setting(1, Origin("l.toml"))
    assert first.right == Setting(1.0, Origin("r.toml"))
    assert diff(left, left) == []


def test_dump_is_readable_toml(loader):
    text = """\
a = 1
f = 1e-05
none = {_none_ = true}
literal = "$${x}"
"odd key" = "\\"\\n\\u007f"

[model]
list = [
  {type = "A", inner = {b = [1, 2]}},
  [],
]

[model.empty]
"""
    assert dump(loader({"a.toml": text}).table) == text


def test_a_table_is_a_frozen_mapping(loader):
    table = loader({"a.toml": "a = [{b = 1}]"}).table
    with pytest.raises(AttributeError):
        table.path = ("x",)
    with pytest.raises(TypeError):
        table["a"] = 1
    plain = table.plain()
    plain["a"][0]["b"] = 2
    assert table["a"][0]["b"] == 1
    assert repr(table) == "Table('', {'a': [{'b': 1}]})"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('model.neck.0."odd.key"', ("model", "neck", 0, "odd.key")),
        ("a.-1", ("a", -1)),
        ('a."0"."-1"', ("a", "0", "-1")),
        ("a.01.-0.1x", ("a", "01", "-0", "1x")),
        ('"".köpf'.replace("köpf", '"köpf"'), ("", "köpf")),
    ],
)
def test_paths(text, path):
    assert parse_path(text) == path
    assert format_path(path) == text


def test_paths_are_shown_relative_to_the_working_folder(loader, tmp_path, monkeypatch):
    loader({"elsewhere/a.toml": "a = 1", "work/b.toml": "_base_ = '../elsewhere/a.toml'\nb = 1"})
    monkeypatch.chdir(tmp_path / "work")
    graph = read_graph("b.toml", resolve_dist=lambda dist, path: Path())
    assert [layer.origin.file for layer in graph.layers] == [os.path.join(tmp_path, "elsewhere", "a.toml"), "b.toml"]
