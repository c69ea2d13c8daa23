"""Config, annotations, checkpoint and evaluator know the same classes, or the run stops with one error and a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from detcore import load_detector, run
from detcore.assemble import build, load
from detcore.classes import ROWS, agree, all_used, table
from detcore.cli import main
from detcore.data import Loader
from detcore.errors import CheckpointError, ConfigError, UserError
from detcore.preprocess import Preprocess
from detcore.runner.evaluate import evaluate
from PIL import Image
from torch import nn

TOY = Path(__file__).parents[1] / "core" / "toy_plugin.py"
CONFIG = """
classes = ["cat", "dog"]
[plugins]
local = ["PLUGIN"]
[model]
type = "OneStage"
backbone = { type = "ToyBackbone" }
head = { type = "ToyHead" }
[train]
dataset = { type = "CocoDataset", annotations = "train.json", images = "." }
epochs = 1
batch_size = 2
[val]
dataset = { type = "CocoDataset", annotations = "val.json", images = "." }
evaluator = { type = "CocoEvaluator" }
[optimizer]
type = "SGD"
lr = 0.1
"""
CATEGORIES = {"cat": 7, "dog": 3}
UNNAMED = "classes={_delete_=true}"


def annotate(split: str, categories: dict[str, int], used: Sequence[str] | None = None) -> None:
    """Two images, each with an object of every category (or of those that are used)."""
    boxes = [(image, id_) for image in (1, 2) for name, id_ in categories.items() if used is None or name in used]
    content = {
        "images": [{"id": image, "file_name": "a.png", "width": 48, "height": 32} for image in (1, 2)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": id_, "bbox": [4, 4, 10, 10], "area": 100, "iscrowd": 0}
            for number, (image, id_) in enumerate(boxes, 1)
        ],
        "categories": [{"id": id_, "name": name} for name, id_ in categories.items()],
    }
    Path(f"{split}.json").write_text(json.dumps(content))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("detcore_coco", reason="detcore-coco is not installed")
    monkeypatch.chdir(tmp_path)
    Path("toy.toml").write_text(CONFIG.replace("PLUGIN", TOY.as_posix()))
    Image.new("RGB", (48, 32)).save("a.png")
    for split in ("train", "val"):
        annotate(split, CATEGORIES)
    return "toy.toml"


@pytest.fixture
def trained(config: str) -> str:
    """A checkpoint of cats and dogs."""
    run.train(config, work_dir="out")
    return "out/checkpoints/last.pt"


@pytest.fixture
def refuses(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """The lines with which ``core-run`` ends: one of an error, and the table."""

    def call(*arguments: str, sets: Sequence[str] = ()) -> list[str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*arguments, *(part for each in sets for part in ("--set", each))])
        lines = capsys.readouterr().err.rstrip().splitlines()
        assert stop.value.code == 2
        assert [line.startswith("class ") for line in lines[:2]] == [False, True]
        return lines

    return call


# ------------------------------------------------------------------------------------------------- what agrees passes


def test_classes_that_agree_pass_through_a_whole_life(config: str, trained: str) -> None:
    run.evaluate(config, trained)
    run.evaluate(config, trained, sets=[UNNAMED])
    assert load_detector(config, trained).classes == ("cat", "dog")
    run.train(config, sets=["train.epochs=2"], resume=trained, work_dir="out")


def test_labels_follow_names_whatever_the_order_of_a_file(config: str) -> None:
    annotate("val", {"dog": 1, "cat": 2})
    parts = build(*load(config), wanted=("model", "train"))
    assert parts.train is not None
    assert parts.val is not None
    assert (parts.classes, parts.train.dataset.classes, parts.val.dataset.classes) == (("cat", "dog"),) * 3


def test_a_category_that_no_object_has_may_be_left_out(config: str) -> None:
    annotate("train", {**CATEGORIES, "animals": 0}, used=["cat", "dog"])
    assert build(*load(config), wanted=("model", "train")).classes == ("cat", "dog")


# ----------------------------------------------------------------------------------------------- config, annotations


def test_a_name_that_no_annotation_has(config: str, refuses: Callable[..., list[str]]) -> None:
    line, *rows = refuses(config, sets=['classes=["cat", "bird"]'])
    assert "toy.toml: train.dataset: " in line
    assert 'no category is called "bird", which the config lists in classes. It has cat, dog.' in line
    assert rows == [
        "class  config  annotations",
        "cat    0       id 7",
        "bird   1       -",
        "dog    -       id 3",
    ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_more_are_annotated_than_the_config_lists(config: str, refuses: Callable[..., list[str]], split: str) -> None:
    annotate(split, {"bird": 12, **CATEGORIES})
    line, *rows = refuses(config)
    assert line == (
        f"toy.toml: classes leave out what {split}.dataset has annotated: bird. "
        "Where it is meant that they are left out, write class_subset = true."
    )
    assert rows == [
        f"class  config  {split}.dataset",
        "cat    0       0 (id 7)",
        "dog    1       1 (id 3)",
        "bird   -       id 12",
    ]
    assert build(*load(config, ["class_subset=true"]), wanted=("model", "train")).classes == ("cat", "dog")
    own = [UNNAMED, *(f'{each}.dataset.classes=["dog"]' for each in ("train", "val"))]
    assert build(*load(config, own), wanted=("model", "train")).classes == ("dog",)  # each data set is told


def test_data_that_cannot_choose_has_the_configs_order(config: str, refuses: Callable[..., list[str]]) -> None:
    Path("own.py").write_text(
        "from detcore import Component, hookimpl\nfrom toy_plugin import ToyDataset\n"
        "class Fixed(ToyDataset):\n    def __init__(self, *, own: list[str]) -> None:\n"
        "        super().__init__(names=own)\n"
        "@hookimpl\ndef detcore_components():\n    return [Component('dataset', 'Fixed', f'{__name__}:Fixed')]\n"
    )
    sets = [f'plugins.local=["{TOY.as_posix()}", "own.py"]', "val={_delete_=true}"]
    data = 'train.dataset={_delete_=true, type="Fixed", own=%s}'
    line, *rows = refuses(config, sets=[*sets, data % '["dog", "cat"]'])
    assert line == (
        "toy.toml: config and train.dataset have different classes: their order differs. "
        'List those that are meant, in order, at the top of the config: classes = ["...", ...].'
    )
    assert rows == ["class  config  train.dataset", "cat    0       1", "dog    1       0"]
    line, *rows = refuses(config, sets=[*sets, data % '["cat"]'])
    assert "have different classes: only config has dog." in line
    assert rows[-1] == "dog    1       -"
    build(*load(config, [*sets, data % '["cat", "dog"]']), wanted=("model", "train"))


def test_train_and_val_differ_where_the_data_names_the_classes(config: str, refuses: Callable[..., list[str]]) -> None:
    annotate("val", {"cat": 1, "bird": 2})
    line, *rows = refuses(config, sets=[UNNAMED])
    assert "toy.toml: train.dataset and val.dataset have different classes: " in line
    assert "only train.dataset has dog; only val.dataset has bird. List those that are meant" in line
    assert rows == [
        "class  train.dataset  val.dataset",
        "cat    0 (id 7)       0 (id 1)",
        "dog    1 (id 3)       -",
        "bird   -              1 (id 2)",
    ]
    annotate("val", {"dog": 3, "cat": 7})
    line, *rows = refuses(config, sets=[UNNAMED])
    assert "train.dataset and val.dataset have different classes: their order differs." in line
    assert rows[1:] == ["cat    0 (id 7)       1 (id 7)", "dog    1 (id 3)       0 (id 3)"]


# -------------------------------------------------------------------------------------------------------- checkpoints

OTHERS = "Name those of the checkpoint: classes = [...]. To go on with some of them, or others, train with init_from."


def test_a_checkpoint_of_other_classes_than_the_config(
    config: str, trained: str, refuses: Callable[..., list[str]]
) -> None:
    annotate("val", {"bird": 9, "cat": 7})
    line, *rows = refuses("eval", config, trained, sets=['classes=["cat", "bird"]'])
    assert line == (
        f"{trained}: config and checkpoint have different classes: "
        f"only config has bird; only checkpoint has dog. {OTHERS}"
    )
    assert rows == [
        "class  config  val.dataset  checkpoint",
        "cat    0       0 (id 7)     0",
        "bird   1       1 (id 9)     -",
        "dog    -       -            1",
    ]


def test_a_checkpoint_of_other_classes_than_the_annotations(
    config: str, trained: str, refuses: Callable[..., list[str]]
) -> None:
    annotate("val", {"dog": 3, "cat": 7})
    line, *rows = refuses("eval", config, trained, sets=[UNNAMED])
    assert "val.dataset and checkpoint have different classes: their order differs." in line
    assert rows == ["class  val.dataset  checkpoint", "dog    0 (id 3)     1", "cat    1 (id 7)     0"]
    annotate("val", {"cat": 7})
    line, *rows = refuses("eval", config, trained, sets=[UNNAMED])
    assert "only checkpoint has dog." in line
    assert rows[-1] == "dog    -            1"


@pytest.mark.parametrize(
    ("classes", "what"),
    [
        ('["dog", "cat"]', "their order differs"),
        ('["cat"]', "only checkpoint has dog"),
        ('["cat", "dog", "bird"]', "only config has bird"),
    ],
)
def test_a_checkpoint_that_predicts_with_a_config_of_other_classes(
    config: str, trained: str, refuses: Callable[..., list[str]], classes: str, what: str
) -> None:
    arguments = "predict", config, trained, "a.png", "--output", "found"
    line, *rows = refuses(*arguments, sets=[f"classes={classes}"])
    assert line == f"{trained}: config and checkpoint have different classes: {what}. {OTHERS}"
    assert rows[0] == "class  config  checkpoint"
    assert not Path("found").exists()
    with pytest.raises(CheckpointError, match="have different classes"):
        load_detector(config, trained, sets=[f"classes={classes}"])


@pytest.mark.parametrize("classes", ['["dog", "cat"]', '["cat"]'])
def test_a_run_is_resumed_with_the_classes_that_it_began_with(
    config: str, trained: str, refuses: Callable[..., list[str]], classes: str
) -> None:
    sets = [f"classes={classes}", "class_subset=true"]
    line, *rows = refuses("train", config, "--resume", trained, "--work-dir", "out", sets=sets)
    assert f"{trained}: train.dataset and checkpoint have different classes: " in line
    assert line.endswith(". A run is resumed with what it began with.")
    assert rows[0] == "class  train.dataset  checkpoint"
    assert "(id 7)" in rows[-2 if len(json.loads(classes)) == 1 else -1]


def test_a_subset_of_a_checkpoint_is_taken_by_init_from(
    config: str, trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.train(config, sets=['classes=["dog"]', "class_subset=true", f'init_from="{trained}"'], work_dir="few")
    assert "classes left behind: cat" in capsys.readouterr().out
    run.evaluate(config, "few/checkpoints/last.pt", sets=['classes=["dog"]', "class_subset=true"])


# ---------------------------------------------------------------------------------------------------------- evaluators


def evaluators() -> list[str]:
    return ["CocoEvaluator", "VOCEvaluator", "LVISEvaluator"]


class Never(nn.Module):
    """Is not asked for anything."""

    def forward(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("what is found cannot be scored")


@pytest.mark.parametrize("name", evaluators())
def test_an_evaluator_of_other_classes_than_the_data(config: str, name: str) -> None:
    module = {"CocoEvaluator": "detcore_coco", "VOCEvaluator": "detcore_voc", "LVISEvaluator": "detcore_lvis"}[name]
    make: Any = getattr(pytest.importorskip(f"{module}.evaluator", reason=f"{module} is not installed"), name)
    dataset: Any = pytest.importorskip("detcore_coco.dataset").CocoDataset
    ours = dataset(annotations="val.json", images=".")
    theirs = dataset(annotations="val.json", images=".", classes=["dog", "cat"])
    with pytest.raises(ConfigError) as caught:
        evaluate(detector=Never(), preprocess=Preprocess(), loader=Loader(ours), evaluator=make(theirs))
    assert str(caught.value).splitlines() == [
        f"{name}: annotations and evaluator have different classes: their order differs. "
        "It is made for the dataset that is evaluated on.",
        "class  annotations  evaluator",
        "cat    0 (id 7)     1 (id 7)",
        "dog    1 (id 3)     0 (id 3)",
    ]


def test_an_evaluator_that_has_classes_of_its_own_stops_a_run_before_it_begins(
    config: str, refuses: Callable[..., list[str]]
) -> None:
    Path("own.py").write_text(
        "from detcore import Component, hookimpl\nfrom detcore.interfaces import Evaluator\n"
        "class Own(Evaluator):\n    classes = ('cat', 'bird')\n    def __init__(self, dataset): ...\n"
        "    def update(self, detections, ids): ...\n    def compute(self): return {'score': 0.0}\n"
        "@hookimpl\ndef detcore_components():\n    return [Component('evaluator', 'Own', f'{__name__}:Own')]\n"
    )
    sets = [f'plugins.local=["{TOY.as_posix()}", "own.py"]', 'val.evaluator={_delete_=true, type="Own"}']
    line, *rows = refuses(config, sets=sets)
    assert "Own: annotations and evaluator have different classes: only annotations has dog; only evaluator has" in line
    assert rows == [
        "class  annotations  evaluator",
        "cat    0 (id 7)     0",
        "dog    1 (id 3)     -",
        "bird   -            1",
    ]
    assert not [*Path().glob("**/*.pt")]


# ------------------------------------------------------------------------------------------------------------- tables


def test_of_many_classes_those_are_shown_that_differ() -> None:
    many = [f"c{number}" for number in range(80)]
    other = [*many[:30], "new", *many[31:]]
    lines = table({"config": many, "checkpoint": other}).splitlines()
    assert lines == [
        "class  config  checkpoint",
        "c30    30      -",
        "new    -       30",
        "and 79 more, on 79 of 81 all agree",
    ]
    shifted = table({"config": many, "checkpoint": many[1:]}).splitlines()
    assert (len(shifted), shifted[-1]) == (ROWS + 2, "and 60 more, on 0 of 80 all agree")
    with pytest.raises(UserError) as caught:
        agree("here", {"config": many, "checkpoint": ["x"]}, "Do this.")
    assert str(caught.value).startswith(
        "here: config and checkpoint have different classes: only config has c0, c1, c2, c3, c4, ...; "
        "only checkpoint has x. Do this.\nclass "
    )


def test_what_agrees_raises_nothing() -> None:
    agree("here", {"config": ("a", "b"), "val.dataset": ["a", "b"]}, "")
    all_used("here", ["a"], "val.dataset", ["a", "b"])  # it does not tell what is annotated


def test_bare_weights_say_nothing_of_classes(config: str, trained: str) -> None:
    torch.save(torch.load(trained, weights_only=True)["model"], "bare.pt")
    run.evaluate(config, "bare.pt", sets=['classes=["dog", "cat"]'])
