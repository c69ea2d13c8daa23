"""Checkpoints of MMDetection become ours: older names, averaged weights, other toolsets' leftovers; or it is said why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmdet_files
import pytest
import torch
from detcore.errors import CheckpointError
from detcore.foreign import Part
from detcore_mmdet import import_checkpoint, read_checkpoint, to_mmdet
from detcore_mmdet.older import RULES, current, unaveraged
from torch import Tensor

PART = Part(
    {
        "type": "OneStage",
        "backbone": Part({"type": "Net"}, "backbone", ((r"\bnorm\.", "bn."),), absent=("late\\..*",)),
        "head": Part({"type": "Head"}, "bbox_head"),
    },
    "",
)
OURS = {
    "backbone.conv.weight": torch.arange(4.0),
    "backbone.norm.weight": torch.ones(2),
    "backbone.norm.num_batches_tracked": torch.tensor(5),
    "backbone.layer2.0.conv2.conv_offset.weight": torch.full((3,), 2.0),
    "head.conv_cls.bias": torch.full((3,), 3.0),
    "head.conv_reg.bias": torch.full((4,), 4.0),
    "head.conv_centerness.bias": torch.full((1,), 5.0),
}
EMPTY = {name: torch.zeros_like(value) for name, value in OURS.items()}
THEIRS = to_mmdet(OURS, PART)


@pytest.fixture
def taken(tmp_path: Path) -> Any:
    """What a file of that state dict becomes, and the lines."""

    def take(
        state: Mapping[str, Tensor], version: str = "2.28.0", **names: Tensor
    ) -> tuple[dict[str, Tensor], list[str]]:
        torch.save(mmdet_files.of_2x(state, version), tmp_path / "x.pth")
        return import_checkpoint(tmp_path / "x.pth", PART, {**EMPTY, **names})

    return take


def equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor] = OURS) -> bool:
    return [*found] == [*expected] and all(torch.equal(found[name], value) for name, value in expected.items())


def test_names_of_today_need_no_word(taken: Any) -> None:
    found, lines = taken(THEIRS)
    assert equal(found)
    assert lines == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("module.backbone.conv.weight", "backbone.conv.weight"),
        ("_orig_mod.backbone.conv.weight", "backbone.conv.weight"),
        ("module._orig_mod.backbone.conv.weight", "backbone.conv.weight"),
        ("backbone.layer2.0.conv2_offset.weight", "backbone.layer2.0.conv2.conv_offset.weight"),
        ("module.backbone.layer2.0.conv2_offset.weight", "backbone.layer2.0.conv2.conv_offset.weight"),
        ("module.backbone.layer2.0.conv2.conv_offset.weight", "backbone.layer2.0.conv2.conv_offset.weight"),
        ("bbox_head.fcos_cls.bias", "bbox_head.conv_cls.bias"),
        ("bbox_head.fcos_reg.bias", "bbox_head.conv_reg.bias"),
        ("bbox_head.fcos_centerness.bias", "bbox_head.conv_centerness.bias"),
        ("bbox_head.centerness.bias", "bbox_head.conv_centerness.bias"),
    ],
)
def test_an_older_name_is_found_and_told(taken: Any, old: str, new: str) -> None:
    found, lines = taken({old if name == new else name: value for name, value in THEIRS.items()})
    assert equal({name: found[name] for name in OURS})
    assert lines == [f"1 renamed: {old} -> {new}"]


def test_each_rule_has_a_name_above_that_needs_it() -> None:
    olds = ["module.a", "_orig_mod.a", "a.conv2_offset.bias", "a.fcos_reg.b", "a.centerness.b"]
    news = ["a", "a", "a.conv2.conv_offset.bias", "a.conv_reg.b", "a.conv_centerness.b"]
    assert len(olds) == len(RULES)
    assert [current(*pair) for pair in zip(olds, ({new} for new in news), strict=True)] == news
    assert [current(old, {"b"}) for old in olds] == [None] * len(olds)


def test_a_rule_does_not_take_the_place_of_a_tensor_that_is_there(taken: Any) -> None:
    more = {"module.backbone.conv.weight": torch.zeros(4)}
    for state in ({**THEIRS, **more}, {**more, **THEIRS}):
        with pytest.raises(CheckpointError, match=r"1 extra \(module\.backbone\.conv\.weight\) tensors"):
            taken(state)


def test_averaged_weights_are_those_that_are_taken(taken: Any) -> None:
    """In a file the average has the tensor's own name; what trains stands beside it."""
    copies = {f"ema_{name.replace('.', '_')}": torch.full_like(value, 9) for name, value in THEIRS.items()}
    for prefix in ("", "module."):
        state = {f"{prefix}{name}": value for name, value in {**THEIRS, **copies}.items()}
        assert len(unaveraged(state)) == len(copies)
        found, lines = taken(state)
        assert equal(found)
        assert lines[-1].startswith("7 left out, as they are copies from before averaging: ")
    assert unaveraged({"ema_a_b": 1, "ema.a": 1, "a.c": 1}) == set()


def test_an_average_of_3x_is_in_the_state_dict(tmp_path: Path) -> None:
    content = {**mmdet_files.of_3x(THEIRS), "ema_state_dict": {"module.backbone.conv.weight": torch.zeros(4)}}
    mmdet_files.save(content, tmp_path / "x.pth")
    found, lines = import_checkpoint(tmp_path / "x.pth", PART, EMPTY)
    assert equal(found)
    assert lines == ["not read: message_hub, optimizer, ema_state_dict"]


def test_what_nobody_reads_is_left_out_and_told(taken: Any) -> None:
    more = {"backbone.late.weight": torch.ones(1), "data_preprocessor.mean": torch.ones(3, 1, 1)}
    found, lines = taken({**more, **THEIRS})
    assert equal(found)
    assert lines == ["2 left out, as they are no weights of ours: backbone.late.weight, data_preprocessor.mean"]


def test_counters_of_batch_norms_begin_at_zero(taken: Any) -> None:
    found, lines = taken({name: value for name, value in THEIRS.items() if "num_batches" not in name})
    assert equal(found, {**OURS, "backbone.norm.num_batches_tracked": torch.tensor(0)})
    assert lines == ["1 not there, and begun at 0: backbone.bn.num_batches_tracked"]


def test_numbers_become_the_detectors(taken: Any) -> None:
    found, lines = taken({**THEIRS, "backbone.conv.weight": torch.arange(4.0).half()})
    assert equal(found)
    assert {value.dtype for value in found.values()} == {torch.float32, torch.int64}
    assert lines == ["1 turned into the detector's type of numbers: backbone.conv.weight"]


def test_another_shape_is_an_error_that_names_it(taken: Any) -> None:
    fix = r"Is this the config, and the number of classes, that it was trained with\?"
    with pytest.raises(
        CheckpointError, match=rf"x\.pth: 1 tensors .*: bbox_head\.conv_cls\.bias \(80,\) for \(3,\)\. {fix}"
    ):
        taken({**THEIRS, "bbox_head.conv_cls.bias": torch.zeros(80)})


def test_other_tensors_are_an_error_that_names_them(taken: Any) -> None:
    theirs = {**THEIRS, "bbox_head.other": torch.ones(1)}
    del theirs["backbone.conv.weight"]
    found = r"1 missing \(backbone\.conv\.weight\) and 1 extra \(bbox_head\.other\) tensors"
    with pytest.raises(CheckpointError, match=rf"x\.pth: {found}\. Is this the config that it was trained with\?"):
        taken(theirs)


def test_1x_is_refused(taken: Any) -> None:
    fix = r"Upgrade it with MMDetection's tools/model_converters/upgrade_model_version\.py\."
    with pytest.raises(CheckpointError, match=rf"is of MMDetection 1\.2\.0, where class 0 is the background\. {fix}"):
        taken(THEIRS, "1.2.0")
    for version in ("2.0.0", "2.11.0+abc", "3.3.0", "unknown"):
        assert equal(taken(THEIRS, version)[0])


def test_an_rpn_of_two_classes_is_refused_where_the_background_was_first(tmp_path: Path) -> None:
    rpn = {"rpn_head.rpn_reg.weight": torch.ones(12, 1), "rpn_head.rpn_cls.weight": torch.ones(6, 1)}
    part = Part({"type": "X", "rpn_head": Part({"type": "Y"}, "rpn_head")}, "")
    for version, scores in (("2.5.0", 6), ("2.4.0", 3), ("2.4.0", 6)):
        state = {**rpn, "rpn_head.rpn_cls.weight": torch.ones(scores, 1)}
        torch.save(mmdet_files.of_2x(state, version), tmp_path / "x.pth")
        if (version, scores) == ("2.4.0", 6):
            with pytest.raises(CheckpointError, match=r"is of MMDetection 2\.4\.0, whose RPN has the background first"):
                import_checkpoint(tmp_path / "x.pth", part, state)
        else:
            assert equal(import_checkpoint(tmp_path / "x.pth", part, state)[0], state)


@pytest.mark.parametrize(
    ("meta", "classes"),
    [
        ({"CLASSES": ("a", "b")}, ["a", "b"]),
        ({"CLASSES": "person"}, ["person"]),
        ({"dataset_meta": {"classes": ["a"]}, "CLASSES": ("b",)}, ["a"]),
        ({"dataset_meta": {"CLASSES": ("a",)}}, ["a"]),
        ({"dataset_meta": {}}, None),
        ({"CLASSES": ()}, None),
        ({"CLASSES": (1, 2)}, None),
        ("text", None),
    ],
)
def test_where_the_names_of_classes_are(tmp_path: Path, meta: Any, classes: Any) -> None:
    torch.save({"state_dict": THEIRS, "meta": meta}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").classes == classes
