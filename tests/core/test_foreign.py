"""Tables of another toolbox: what is read is translated, what is not is listed, and tensors keep both names."""

from __future__ import annotations

from typing import Any

import pytest
from detcore.foreign import Foreign, Log, Part


def tower(table: Foreign) -> Part:
    return table.into("Tower", (r"^conv\.", "tower_conv."), (r"norm", "bn"), **table.keep(depth="num_convs"))


def density(table: Foreign) -> Part:
    return table.into("Density", absent=(r"edges\d?",))


def broken(table: Foreign) -> Part:
    return table.into("Broken", depth=table.get("depth") + 1)


def head(table: Foreign) -> Part:
    train = table.table("train_cfg")
    table.wired("in_channels", "num_classes")
    table.only(use_bias=True)
    return table.into(
        "Head",
        network=table.into("Network", (r"^cls\.", "head_cls.")),
        towers=[each.translated() for each in table.tables("towers")],
        loss={"type": "Loss", "cls": table.part("loss_cls")},
        assigner=train.part("assigner", name="nameless"),
    )


def nameless(table: Foreign) -> None:
    table.get("radius")


TRANSLATIONS = {"T": tower, "D": density, "B": broken, "H": head, "nameless": nameless}


def read(**values: Any) -> tuple[Any, Log, list[str]]:
    log = Log(TRANSLATIONS)
    table = Foreign(values, "model", log)
    part = table.part("head", train_cfg=table.table("train_cfg"))
    return part, log, [str(each) for each in (*log.lost, *table.unread())]


HEAD = {
    "type": "H",
    "num_classes": 3,
    "in_channels": 8,
    "towers": [{"type": "T", "num_convs": 2}, {"type": "T"}],
    "loss_cls": {"type": "D"},
}


def test_what_is_read_becomes_our_table_and_nothing_is_listed() -> None:
    part, log, lost = read(head=HEAD, train_cfg={"assigner": {"radius": 1.5}})
    assert lost == []
    assert log.classes == {3}
    assert part.plain == {
        "type": "Head",
        "network": {"type": "Network"},
        "towers": [{"type": "Tower", "depth": 2}, {"type": "Tower"}],
        "loss": {"type": "Loss", "cls": {"type": "Density"}},
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fancy": 1}, "model.head.fancy = 1: has no counterpart"),
        ({"use_bias": False}, "model.head.use_bias = False: only True has a counterpart"),
        ({"loss_cls": {"type": "X"}}, "model.head.loss_cls = 'X': no installed plugin translates it"),
        ({"loss_cls": {"type": "D", "deep": {"x": 1}}}, "model.head.loss_cls.deep = {'x': 1}: has no counterpart"),
        ({"towers": [{"type": "T", "width": 9}]}, "model.head.towers.0.width = 9: has no counterpart"),
        ({"loss_cls": 5}, "model.head.loss_cls = 5: a table was expected"),
        (
            {"loss_cls": {"type": "B"}},
            "model.head.loss_cls = 'B': cannot be read: TypeError(\"unsupported operand type(s) for +: 'NoneType' and "
            "'int'\")",
        ),
    ],
)
def test_what_has_no_counterpart_is_listed_by_its_key_path(change: dict[str, Any], told: str) -> None:
    _, _, lost = read(head={**HEAD, **change})
    assert told in lost


def test_keys_that_are_handed_down_are_listed_where_they_stand() -> None:
    _, _, lost = read(head=HEAD, train_cfg={"assigner": {"radius": 1, "topk": 9}, "debug": True})
    assert lost == [
        "model.train_cfg.debug = True: has no counterpart",
        "model.train_cfg.assigner.topk = 9: has no counterpart",
    ]


def test_a_default_counts_also_where_the_table_was_looked_for_before() -> None:
    table = Foreign({}, "model", Log(TRANSLATIONS))
    assert table.table("neck").get("type") is None
    assert table.part("neck", {"type": "T", "num_convs": 3}).plain == {"type": "Tower", "depth": 3}


def test_the_innermost_part_names_a_tensor() -> None:
    part, _, _ = read(head=HEAD)
    whole = Part({"type": "Detector", "head": part, "neck": [Part({}, "neck.0")]}, "")
    assert whole.foreign_name("head.network.cls.weight") == "head.head_cls.weight"
    assert whole.foreign_name("head.towers.1.conv.norm.bias") == "head.towers.1.tower_conv.bn.bias"
    assert whole.foreign_name("head.loss.cls.acc_sum") == "head.loss_cls.acc_sum"
    assert whole.foreign_name("head.scale") == "head.scale"
    assert whole.foreign_name("neck.0.conv.weight") == "neck.0.conv.weight"


def test_only_declared_constants_of_theirs_are_dropped() -> None:
    whole = Part({"head": read(head=HEAD)[0]}, "")
    assert whole.dropped("head.loss_cls.edges")
    assert whole.dropped("head.loss_cls.edges2")
    assert not whole.dropped("head.loss_cls.acc_sum")
    assert not whole.dropped("head.edges")
