"""``core-run import-mmdet``: what it writes, what it says, what it refuses."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import mmdet_files
import pytest
import tomli
import torch
from detcore import load_detector
from detcore.assemble import build, load
from detcore.cli import main
from detcore.config import plain
from detcore.initial import init_from
from detcore_mmdet import read_checkpoint, to_mmdet
from detcore_mmdet.config import Imported, import_config
from detcore_mmdet.writing import difference, folded, render, written
from hypothesis import given
from hypothesis import strategies as st
from mmdet_configs import CLASSES, new, old


def core_run(*arguments: object) -> tuple[int, str]:
    """The exit code of ``core-run``, and what it printed."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return int(str(ended.value)), said.getvalue()


def run(folder: Path, config: Any, *options: str) -> tuple[int, str]:
    """The command on a config in a file."""
    source = folder / "parts.json"
    source.write_text(config if isinstance(config, str) else json.dumps(config))
    return core_run("import-mmdet", source, "-o", folder / "out", *options)


@pytest.mark.parametrize("config", [new(), old()], ids=["3.x", "2.x"])
def test_a_config_is_written_checked_and_reported(config: dict[str, Any], tmp_path: Path) -> None:
    code, said = run(tmp_path, config)
    assert code == 0, said
    path = tmp_path / "out" / "parts.toml"
    assert f"{path}: written, and core-run check finds no problem" in said
    table: Any = plain(load(str(path))[0].table)
    assert table.pop("data_root") == "data/parts"
    assert table == import_config(config).table
    text = path.read_text()
    assert text.startswith("# parts.json, a config of MMDetection")
    assert (
        '_base_ = ["detcore::_base_/models/retinanet_r50_fpn.toml", "detcore::_base_/schedules/schedule_1x.toml"]'
        in text
    )
    assert "# auto_scale_lr.base_batch_size: 16 images a step" in text
    report = (tmp_path / "out" / "parts.md").read_text()
    assert "## Without counterpart\n\nNothing." in report
    assert said.splitlines()[0] in report


def test_what_has_no_counterpart_stands_in_the_file_too(tmp_path: Path) -> None:
    code, said = run(tmp_path, new(tta_model={"type": "DetTTAModel"}))
    line = "tta_model = {'type': 'DetTTAModel'}: "
    assert code == 0
    assert line in said
    assert "written without the 1 above" in said
    assert f"# Without counterpart: {line}" in (tmp_path / "out" / "parts.toml").read_text()


def test_a_detector_that_lacks_parts_is_written_only_when_asked_for(tmp_path: Path) -> None:
    config = new(model__neck={"type": "NASFPN", "in_channels": [1]}, model__bbox_head__loss_cls={"type": "Odd"})
    code, said = run(tmp_path, config)
    assert code == 2
    assert said.splitlines() == [
        f"{tmp_path / 'parts.json'}: its detector has parts without a counterpart: model.neck (NASFPN), "
        "model.bbox_head.loss_cls (Odd). --partial writes what there is, to be finished by hand."
    ]
    assert not (tmp_path / "out").exists()
    code, said = run(tmp_path, config, "--partial")
    assert code == 0
    assert "core-run check finds" in said
    table = tomli.loads((tmp_path / "out" / "parts.toml").read_text())
    assert table["train"]["clip_grad"] == 35.0


VIEWS: list[Any] = [
    [{"type": "Resize", "scale": [1333, 800], "keep_ratio": True}, {"type": "Resize", "scale": [666, 400]}],
    [{"type": "RandomFlip", "prob": 1.0}, {"type": "RandomFlip", "prob": 0.0}],
    [{"type": "PackDetInputs"}],
]


def with_views(*steps: Any) -> dict[str, Any]:
    nms = {"nms": {"type": "nms", "iou_threshold": 0.6}, "max_per_img": 200}
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "TestTimeAug", "transforms": [*VIEWS, *steps]}]
    return new(tta_model={"type": "DetTTAModel", "tta_cfg": nms}, tta_pipeline=pipeline)


def test_several_views_of_an_image_are_a_config_on_the_first(tmp_path: Path) -> None:
    code, said = run(tmp_path, with_views())
    assert code == 0, said
    path = tmp_path / "out" / "parts_tta.toml"
    assert f"{path}: written" in said
    table: Any = plain(load(str(path))[0].table)
    model = table.pop("model")
    assert model.pop("detector") == import_config(new()).table["model"]
    assert model == {
        "type": "TTA",
        "flips": ["none", "horizontal"],
        "scales": [1.0, 0.5],
        "merger": {"type": "NMSMerger", "iou_threshold": 0.6},
        "most": 200,
    }


def test_views_of_other_colours_have_no_counterpart(tmp_path: Path) -> None:
    code, said = run(tmp_path, with_views([{"type": "ColorTransform"}]))
    assert code == 0
    assert "views made by ColorTransform have no counterpart" in said
    assert not (tmp_path / "out" / "parts_tta.toml").exists()


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("{", "parts.json:1: not JSON: Expecting property name"),
        ("[]", "parts.json:1: a config is a table, found a list"),
        ({"train_cfg": {}}, "parts.json: has no table `model`. Name a config of a detector, not a fragment of one."),
    ],
)
def test_mistakes_are_one_line(config: Any, found: str, tmp_path: Path) -> None:
    code, said = run(tmp_path, config)
    assert code == 2
    assert found in said
    assert len(said.splitlines()) == 1


def test_files_are_replaced_only_when_asked_for(tmp_path: Path) -> None:
    assert run(tmp_path, new())[0] == 0
    code, said = run(tmp_path, new())
    assert (code, "is there already. --force replaces it." in said) == (2, True)
    assert run(tmp_path, new(), "--force")[0] == 0


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    for name in ("none.json", "none.py"):
        code, said = core_run("import-mmdet", tmp_path / name, "-o", tmp_path)
        assert (code, len(said.splitlines())) == (2, 1), said
        assert name in said


# ------------------------------------------------------------------------------------------------ what is written

SCALARS = st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.sampled_from(["a", "b c", '"', "ä"])
NAMES = st.sampled_from(["type", "size", "loss", "model", "a b", "x"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=4),
    max_leaves=12,
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=5)


@given(TABLES)
def test_what_is_written_reads_as_it_was(table: dict[str, Any]) -> None:
    assert folded(render(table, {}, ["a comment"])) == table


@given(TABLES, TABLES)
def test_a_difference_over_what_is_inherited_is_the_other_table(old_: dict[str, Any], new_: dict[str, Any]) -> None:
    from detcore.config.fold import Layer, fold_layers
    from detcore.config.references import Resolver
    from detcore.config.table import Origin

    layers = [Layer(raw, Origin(name), "") for name, raw in (("old", old_), ("new", difference(old_, new_)))]
    result = fold_layers(layers)
    assert result.problems == ()
    assert plain(Resolver(result.root).resolve()) == new_


def test_a_fragment_is_taken_where_it_saves_something() -> None:
    table = import_config(new()).table
    text = written(table, {}, [])
    assert "faster_rcnn" not in text
    assert len(text) < len(render(table, {}, []))
    assert folded(text) == table


# ------------------------------------------------------------------------------------------------ checkpoints


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and a checkpoint of it, as MMDetection writes them."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "parts.json").write_text(json.dumps(new()))
    state = random_state(folder, import_config(new()))
    saved = mmdet_files.of_3x(state)
    saved["meta"]["dataset_meta"] = mmdet_files.ConfigDict(classes=tuple(CLASSES))
    mmdet_files.save(saved, folder / "parts.pth")
    return folder


def random_state(folder: Path, found: Imported) -> dict[str, torch.Tensor]:
    """Tensors of the config's detector under the names there."""
    (folder / "ours.toml").write_text(written(found.table, {}, []))
    torch.manual_seed(1)
    return to_mmdet(load_detector(str(folder / "ours.toml")).detector.state_dict(), found.part)


def test_a_checkpoint_comes_along_and_goes_back(source: Path, tmp_path: Path) -> None:
    code, said = core_run("import-mmdet", source / "parts.json", source / "parts.pth", "-o", tmp_path)
    assert code == 0, said
    assert f"{tmp_path / 'parts.pt'}: written" in said
    predictor = load_detector(tmp_path / "parts.pt")
    assert list(predictor.classes) == CLASSES
    theirs = to_mmdet(predictor.detector.state_dict(), import_config(new()).part)
    expected = read_checkpoint(source / "parts.pth").state
    assert all(torch.equal(theirs[name], value) for name, value in expected.items())
    assert core_run("export-mmdet", tmp_path / "parts.pt", "-o", tmp_path / "back.pth")[0] == 0
    back = read_checkpoint(tmp_path / "back.pth").state
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[name], value) for name, value in expected.items())


def test_training_begins_with_an_imported_checkpoint(source: Path, tmp_path: Path) -> None:
    assert core_run("import-mmdet", source / "parts.json", source / "parts.pth", "-o", tmp_path)[0] == 0
    config, catalog = load(str(tmp_path / "parts.toml"), [f"init_from={json.dumps(str(tmp_path / 'parts.pt'))}"])
    parts = build(config, catalog, "cpu", load_weights=False)
    assert any("all" in line or "tensors" in line for line in init_from(parts, config, catalog))
    expected = read_checkpoint(source / "parts.pth").state
    weight = parts.model.get_parameter("backbone.conv1.weight")
    assert torch.equal(weight, expected["backbone.conv1.weight"])


def test_a_checkpoint_of_another_config_is_refused_and_nothing_is_left_of_it(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(new(model__backbone__depth=34)))
    code, said = core_run("import-mmdet", other, source / "parts.pth", "-o", tmp_path / "out")
    assert code == 2
    assert "parts.pth" in said
    assert not (tmp_path / "out" / "other.pt").exists()
    fewer = new(train_dataloader__dataset__metainfo={}, val_dataloader__dataset__metainfo={})
    other.write_text(json.dumps(fewer))  # names no classes: they are the checkpoint's
    assert core_run("import-mmdet", other, source / "parts.pth", "-o", tmp_path / "named")[0] == 0
    assert tomli.loads((tmp_path / "named" / "other.toml").read_text())["classes"] == CLASSES
    code, said = core_run("import-mmdet", other, tmp_path / "none.pth", "-o", tmp_path / "none")
    assert (code, len(said.splitlines())) == (2, 1)
    assert not (tmp_path / "none").exists()


def test_what_a_fragment_brings_and_nobody_wants_is_deleted(tmp_path: Path) -> None:
    voc = {
        "type": "VOCDataset",
        "data_root": "data/VOCdevkit/",
        "data_prefix": {"sub_data_root": "VOC2007/"},
        "ann_file": "VOC2007/ImageSets/Main/trainval.txt",
        "pipeline": [{"type": "Resize", "scale": [1000, 600], "keep_ratio": True}],
    }
    model = new()["model"]
    heads = {**model["bbox_head"], "num_classes": 20}
    splits = {"train_dataloader__dataset": voc, "val_dataloader__dataset": {**voc, "test_mode": True}}
    config = new(**splits, model__bbox_head=heads, val_evaluator={"type": "VOCMetric", "eval_mode": "11points"})
    code, said = run(tmp_path, config)
    assert code == 0, said
    text = (tmp_path / "out" / "parts.toml").read_text()
    assert "detcore::_base_/datasets/voc07.toml" in text  # whose data_root is the one of these data
    assert "data_root" not in text
    other = {**voc, "data_root": "elsewhere/"}
    splits = {"train_dataloader__dataset": other, "val_dataloader__dataset": {**other, "test_mode": True}}
    config = new(**splits, model__bbox_head=heads, val_evaluator={"type": "VOCMetric", "eval_mode": "11points"})
    assert run(tmp_path, config, "--force")[0] == 0
    text = (tmp_path / "out" / "parts.toml").read_text()
    assert "detcore::_base_/datasets/voc07.toml" in text
    assert "data_root = {_delete_ = true}" in text


def test_a_rule_for_no_parameter_is_left_out(tmp_path: Path) -> None:
    keys = {"custom_keys": {"query_embed": {"lr_mult": 0.1}, "backbone": {"lr_mult": 0.5}}}
    code, said = run(tmp_path, new(optim_wrapper__paramwise_cfg=keys))
    assert code == 0, said
    assert "optim_wrapper.paramwise_cfg (query_embed)" in said
    assert "it is for no parameter" in said
    table: Any = plain(load(str(tmp_path / "out" / "parts.toml"))[0].table)
    assert [*table["params"]] == ["backbone"]


def test_a_detector_without_parts_that_are_known_is_not_written(tmp_path: Path) -> None:
    code, said = run(tmp_path, new(model={"type": "Detectron2Wrapper", "detector": {"meta": "RetinaNet"}}))
    assert code == 2
    assert "parts without a counterpart: model (Detectron2Wrapper)" in said
