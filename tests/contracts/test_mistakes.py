"""Every mistake that a user is likely to make: one line with file and key, exit code 2, no traceback.

Each is made on purpose, in a small config over a recipe or in a small COCO data set, and run through the command line.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore.cli import main
from torchvision.io import write_jpeg

ROOT = Path(__file__).parents[2]

CONFIG = """
[model]
type = "OneStage"
backbone = { type = "ResNet", depth = 18, width = 8, out_indices = [1, 2, 3] }
neck = { type = "FPN", out_channels = 16, num_outs = 3 }
[model.head]
type = "ComposedHead"
geometry = { type = "Points" }
network = { type = "FCOSTowers", channels = 32, stacked_convs = 1 }
assigner = { type = "FCOSAssigner", ranges = [[-1, 32], [32, 64], [64, inf]] }
decoder = { type = "NMSDecoder", quality = "centerness" }
[model.head.loss]
type = "FCOSLoss"
loss_cls = { type = "FocalLoss" }
loss_box = { type = "GIoULoss" }
loss_centerness = { type = "CrossEntropyLoss", use_sigmoid = true }
[train]
epochs = 1
batch_size = 2
dataset = { type = "CocoDataset", annotations = "ann.json", images = "images" }
[optimizer]
type = "SGD"
lr = 0.001
"""


def annotations(**changes: Any) -> dict[str, Any]:
    """Two images, one object each, categories 7 and 9."""
    box = {"iscrowd": 0, "area": 100.0, "segmentation": []}
    content: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in (1, 2)],
        "annotations": [{"id": 10 + n, "image_id": n, "category_id": 7, "bbox": [4, 4, 10, 10], **box} for n in (1, 2)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    return {**content, **changes}


def with_box(box: list[float]) -> dict[str, Any]:
    content = annotations()
    content["annotations"][0]["bbox"] = box
    return content


class Place:
    """A folder with a config, a data set, and the means to spoil them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("a.toml", CONFIG)
        self.annotate(annotations())
        (folder / "images").mkdir()
        for number in (1, 2):
            write_jpeg(
                torch.full((3, 48, 64), 60 * number, dtype=torch.uint8), str(folder / "images" / f"{number}.jpg")
            )

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def annotate(self, content: dict[str, Any]) -> None:
        self.write("ann.json", json.dumps(content))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line; checks that it ends with 2 and one line; returns the line."""

    def run(*arguments: str) -> str:
        code = exit_code(*arguments)
        lines = capsys.readouterr().err.strip().splitlines()
        assert code == 2, lines
        assert len(lines) == 1, lines
        assert "Traceback" not in lines[0]
        return lines[0]

    return run


def test_the_recipe_itself_is_sound(place: Place) -> None:
    assert exit_code("check", "a.toml") == 0


CONFIG_MISTAKES = {
    "TOML syntax": ("[model\ntype = 3", ["b.toml:1"]),
    "missing base": ('_base_ = "gone.toml"', ["b.toml: _base_", "gone.toml"]),
    "cycle": ('_base_ = "b.toml"', ["b.toml", "-> b.toml"]),
    "unknown key at the top": ('_base_="a.toml"\nmodle=3', ['b.toml: modle: not a key of the config. Did you mean "model"?']),
    "unknown key four levels down": (
        '_base_="a.toml"\nmodel.head.assigner.radious=1.5',
        ['b.toml: model.head.assigner.radious: not a parameter of assigner FCOSAssigner (detcore-fcos 0.1.0). Did you mean "radius"? It takes: ranges, radius.'],
    ),
    "unknown component": ('_base_="a.toml"\nmodel.neck.type="FPNN"', ['b.toml: model.neck.type: no neck "FPNN" is installed', "FPN (neck)"]),
    "wrong kind": ('_base_="a.toml"\nmodel.neck={_delete_=true, type="ResNet", depth=18}', ['b.toml: model.neck.type: "ResNet" is a backbone (detcore-resnet 0.1.0), wanted: neck']),
    "wrong type": ('_base_="a.toml"\nmodel.neck.out_channels="many"', ['b.toml: model.neck.out_channels: found "many", wanted int']),
    "missing key": ('_base_="a.toml"\n[train]\nepochs={_delete_=true}', ["b.toml: train: takes one of epochs and steps, found neither"]),
    "both of two": ('_base_="a.toml"\n[train]\nsteps=9', ["b.toml: train: takes one of epochs and steps, found both"]),
    "missing section key": ('_base_="a.toml"\n[train]\nbatch_size={_delete_=true}', ['train: "batch_size" of train is missing. It takes int.']),
    "contradicting channels": (
        '_base_="a.toml"\nmodel.neck.in_channels=[64, 128, 256]',
        ["b.toml: model.neck.in_channels: [64, 128, 256] given to neck FPN (detcore-fpn 0.1.0)", "backbone ResNet (detcore-resnet 0.1.0) (a.toml: model.backbone) gives [16, 32, 64]"],
    ),
    "a leftover of another type": (
        '_base_="a.toml"\nmodel.head.decoder.type="RPNDecoder"',
        ["a.toml: model.head.decoder.quality: not a parameter of decoder RPNDecoder", "add `_delete_ = true` where b.toml sets the type"],
    ),
    "a reference to nothing": ('_base_="a.toml"\n[vars]\nx="${vars.yy}"', ["b.toml: vars.x", "vars.yy"]),
    "missing annotation file": ('_base_="a.toml"\ntrain.dataset.annotations="gone.json"', ["train.dataset", "gone.json"]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), CONFIG_MISTAKES.values(), ids=CONFIG_MISTAKES.keys())
def test_a_mistake_in_a_config_is_one_line(place: Place, said: Callable[..., str], text: str, parts: list[str]) -> None:
    place.write("b.toml", text)
    line = said("b.toml")
    for part in parts:
        assert part in line


def test_several_mistakes_are_several_lines(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write("b.toml", '_base_="a.toml"\nmodle=1\nmodel.neck.out_chanels=3\ntrain.batch_size="two"')
    assert exit_code("b.toml") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3


DATA_MISTAKES = {
    "a box outside the image": (with_box([100, 100, 10, 10]), ["ann.json", "11"]),
    "a box without size": (with_box([4, 4, 0, 10]), ["ann.json", "11"]),
    "NaN in a box": (with_box([float("nan"), 4, 10, 10]), ["ann.json", "11"]),
    "an unknown category": (annotations(categories=[{"id": 9, "name": "dog"}]), ["ann.json", "7"]),
    "no image": (annotations(images=[], annotations=[]), ["ann.json"]),
}


@pytest.mark.parametrize(("content", "parts"), DATA_MISTAKES.values(), ids=DATA_MISTAKES.keys())
def test_a_flaw_of_annotations_is_one_line(
    place: Place, said: Callable[..., str], content: dict[str, Any], parts: list[str]
) -> None:
    place.annotate(content)
    line = said("a.toml")
    for part in ["a.toml: train.dataset", *parts]:
        assert part in line


@pytest.mark.parametrize("spoil", ["unreadable", "truncated", "missing"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_spoilt_image_is_one_line(place: Place, said: Callable[..., str], spoil: str, workers: int) -> None:
    image = place.folder / "images" / "2.jpg"
    content = {"unreadable": b"no image at all", "truncated": image.read_bytes()[:-200]}
    image.unlink()
    if spoil in content:
        image.write_bytes(content[spoil])
    assert "2.jpg" in said("a.toml", "--set", f"train.workers={workers}")


def test_checkpoints_of_another_kind_are_one_line(place: Place, said: Callable[..., str]) -> None:
    assert exit_code("a.toml", "--work-dir", "out") == 0
    val = (
        "val={dataset={type='CocoDataset', annotations='ann.json', images='images'}, evaluator={type='CocoEvaluator'}}"
    )
    good = "out/checkpoints/last.pt"
    assert exit_code("eval", "a.toml", good, "--set", val) == 0
    line = said("eval", "a.toml", good, "--set", val, "--set", "model.neck.out_channels=24")
    assert f"{good}: is of another architecture: loaded " in line
    assert "% of the parameters" in line
    assert "mismatched" in line
    place.write("text.pt", "not a checkpoint")
    assert "text.pt: is not a checkpoint" in said("eval", "a.toml", "text.pt", "--set", val)
    (place.folder / "code.pt").write_bytes(pickle.dumps(Evil()))
    assert "code.pt: holds code" in said("eval", "a.toml", "code.pt", "--set", val)
    assert not (place.folder / "ran").exists()


class Evil:
    """Would write a file when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def package(folder: Path, name: str, source: str) -> None:
    """An installed distribution ``name`` with one plugin module."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[detcore]\n{name} = {module}\n")


HOOK = "from detcore import Component, hookimpl\n@hookimpl\ndef detcore_components():\n    return [Component('neck', {!r}, 'x:Y')]\n"


def test_two_plugins_with_one_name_are_an_error_where_it_is_used_bare(
    place: Place, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package(place.folder, "acme-fpn", HOOK.format("FPN"))
    monkeypatch.syspath_prepend(str(place.folder))
    line = said("check", "a.toml")
    assert 'a.toml: model.neck.type: neck "FPN" is in acme-fpn 1.0 and detcore-fpn 0.1.0' in line
    assert 'type = "detcore-fpn/FPN"' in line
    assert exit_code("check", "a.toml", "--set", "model.neck.type=detcore-fpn/FPN") == 0


@pytest.mark.parametrize(
    ("source", "exception"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        (HOOK.format("Sad").replace("def detcore_components", "def detcore_component"), "detcore_component"),
    ],
    ids=["fails at import", "misspelt hook"],
)
def test_a_broken_plugin_is_an_error_only_where_a_config_names_it(
    place: Place, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch, source: str, exception: str
) -> None:
    package(place.folder, "acme-sad", source)
    monkeypatch.syspath_prepend(str(place.folder))
    assert exit_code("check", "a.toml") == 0
    line = said("check", "a.toml", "--set", "model.neck={_delete_=true, type='acme-sad/Sad'}")
    assert "model.neck.type" in line
    assert "acme-sad 1.0" in line
    assert exception in line
