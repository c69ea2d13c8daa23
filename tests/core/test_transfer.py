"""Weights for other classes: each layout by hand, all of them by property, and a whole run that begins with others'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from core.test_run import CONFIG, TOY
from detcore import load_detector, run
from detcore.errors import CheckpointError, UserError
from detcore.interfaces import RoIHead
from detcore.structures import Batch
from detcore.transfer import Rows, class_rows, transfer
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

OLD, NEW = ["a", "b", "c"], ["c", "x", "a"]
LAYOUTS = {
    "one row per class": (Rows(1, 0, 0, False), [1, 2, 3], [3, -2, 1]),
    "background last": (Rows(1, 1, 0, False), [1, 2, 3, 9], [3, -2, 1, 9]),
    "background first": (Rows(1, 1, 1, False), [9, 1, 2, 3], [9, 3, -3, 1]),
    "prior by prior": (Rows(2, 0, 0, False), [1, 2, 3, 11, 12, 13], [3, -2, 1, 13, -5, 11]),
    "priors with background": (Rows(2, 1, 0, False), [1, 2, 3, 9, 11, 12, 13, 19], [3, -2, 1, 9, 13, -6, 11, 19]),
    "attributes first": (Rows(2, 2, 2, False), [7, 8, 1, 2, 3, 17, 18, 11, 12, 13], [7, 8, 3, -4, 1, 17, 18, 13, -9, 11]),
    "class by class": (Rows(2, 0, 0, True), [1, 11, 2, 12, 3, 13], [3, 13, -3, -4, 1, 11]),
    "background, class by class": (Rows(2, 1, 1, True), [9, 19, 1, 11, 2, 12, 3, 13], [9, 19, 3, 13, -5, -6, 1, 11]),
}  # fmt: skip


def fresh(rows: int) -> Tensor:
    """Rows -1, -2, ...: a row that stays as it was is told by its number."""
    return -torch.arange(1.0, rows + 1)


@pytest.mark.parametrize(("rule", "old", "new"), LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("more", [(), (2, 3)], ids=["bias", "weight"])
def test_rows_follow_the_names_of_classes(rule: Rows, old: list[int], new: list[int], more: tuple[int, ...]) -> None:
    def filled(values: Any) -> Tensor:
        column: Tensor = torch.as_tensor(values, dtype=torch.float32).view(-1, *[1] * len(more)).expand(-1, *more)
        return column.clone()

    own = filled(fresh(len(new)))
    result, _ = transfer({"w": filled(old)}, {"w": own}, {"w": rule}, OLD, NEW)
    assert torch.equal(result["w"], filled(new))
    assert torch.equal(own, filled(fresh(len(new))))


@given(st.data())
def test_a_permutation_and_back_is_the_identity(data: Any) -> None:
    classes = [f"class {number}" for number in range(data.draw(st.integers(1, 6)))]
    each, others = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 5))
    rule = Rows(each, others, data.draw(st.integers(0, others)), data.draw(st.booleans()))
    shuffled = data.draw(st.permutations(classes))
    tensor = torch.rand(each * (others + len(classes)), 2)
    there, _ = transfer({"w": tensor}, {"w": torch.full_like(tensor, torch.nan)}, {"w": rule}, classes, shuffled)
    back, _ = transfer(there, {"w": torch.full_like(tensor, torch.nan)}, {"w": rule}, shuffled, classes)
    assert torch.equal(back["w"], tensor)
    assert (shuffled == classes) == torch.equal(there["w"], tensor)


def test_the_report_says_what_became_of_each_class_and_tensor() -> None:
    rule = Rows(1, 0, 0, False)
    weights = {"head": torch.ones(3), "odd": torch.ones(3), "sizes": torch.ones(4), "body": torch.ones(2)}
    own = {"head": torch.zeros(3), "odd": torch.zeros(3), "sizes": torch.zeros(3), "body": torch.zeros(2)}
    result, report = transfer(weights, own, {"head": rule, "odd": None, "sizes": rule}, OLD, NEW)
    assert report == [
        "classes transferred: c, a",
        "new classes, fresh: x",
        "classes left behind: b",
        "fresh, as it is not told which rows are of which class: odd, sizes",
    ]
    assert result.keys() == {"head", "body"}


def test_weights_of_unnamed_classes_are_as_they_are() -> None:
    weights = {"head": torch.ones(3), "other": torch.ones(5)}
    own = {"head": torch.zeros(3), "other": torch.zeros(3)}
    rule = Rows(1, 0, 0, False)
    result, report = transfer(weights, own, {"head": rule, "other": rule}, None, NEW)
    assert result == weights
    assert report == ["classes are not named, loaded row by row: head"]


class Attributes(nn.Module):
    """Says where classes begin."""

    class_first = 1

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3 * (classes + 1), 1)


class Second(RoIHead):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.box = nn.Linear(2, 4 * classes)

    def losses(self, *_: Any) -> Any: ...

    def detections(self, *_: Any) -> Any: ...


class Model(nn.Module):
    """A tensor of each kind."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2, 1)
        self.softmax = nn.Linear(2, classes + 1, bias=False)
        self.yolo = nn.Conv2d(2, 3 * (5 + classes), 1, bias=False)
        self.first = Attributes(classes)
        self.second = Second(classes)
        self.hidden = nn.Linear(classes, classes, bias=False)
        self.uneven = nn.Linear(2, 1 + 2 * classes, bias=False)
        self.register_buffer("frequency", torch.zeros(classes))


def test_what_depends_on_classes_is_found_by_one_class_more() -> None:
    assert class_rows(Model(3), Model(4), 3) == {
        "frequency": Rows(1, 0, 0, False),
        "softmax.weight": Rows(1, 1, 0, False),
        "yolo.weight": Rows(3, 5, 5, False),
        "first.conv.weight": Rows(3, 1, 1, False),
        "first.conv.bias": Rows(3, 1, 1, False),
        "second.box.weight": Rows(4, 0, 0, True),
        "second.box.bias": Rows(4, 0, 0, True),
        "hidden.weight": None,
        "uneven.weight": None,
    }


def test_a_module_for_each_class_is_refused() -> None:
    def model(classes: int) -> nn.Module:
        return nn.ModuleList(nn.Linear(1, 1) for _ in range(classes))

    with pytest.raises(CheckpointError) as caught:
        class_rows(model(2), model(3), 2)
    assert str(caught.value) == (
        "init_from: ModuleList has tensors for each class (2.bias, 2.weight), which cannot be matched by name"
    )


# ------------------------------------------------------------------------------------------------ a run of toy parts


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkpoint ``old/checkpoints/last.pt`` of the classes a, b and c, and the config that made it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(CONFIG.replace("PLUGIN", TOY.as_posix()))
    run.train("toy.toml", sets=['classes=["a", "b", "c"]'], work_dir="old")
    return "toy.toml"


INIT = 'init_from="old/checkpoints/last.pt"'
STILL = ["optimizer.lr=0.0", "train.epochs=1"]


def logits(config: str, folder: str, classes: str) -> Tensor:
    detector = load_detector(config, f"{folder}/checkpoints/last.pt", device="cpu", sets=[f"classes={classes}"])
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    batch = Batch(
        images=images, sizes=torch.full((2, 2), 32.0), padded=torch.full((2, 2), 32.0), scale=torch.ones(2, 2)
    )
    found: Tensor = detector.head(detector.backbone(images), batch)[0]  # type: ignore[operator]
    return found


def test_known_classes_give_the_same_logits_in_their_new_places(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = '["c", "x", "a"]'
    run.train(config, sets=[f"classes={classes}", INIT, *STILL], work_dir="new")
    before, after = logits(config, "old", '["a", "b", "c"]'), logits(config, "new", classes)
    assert torch.equal(after[:, [2, 0]], before[:, [0, 2]])
    assert not torch.isclose(after[:, 1], before[:, 1]).any()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("init_from")]
    assert lines == [
        "init_from old/checkpoints/last.pt: loaded 6 tensors (100.0 % of the parameters)",
        "init_from old/checkpoints/last.pt: classes transferred: c, a",
        "init_from old/checkpoints/last.pt: new classes, fresh: x",
        "init_from old/checkpoints/last.pt: classes left behind: b",
    ]


def test_another_number_of_classes_is_transferred_and_the_same_list_is_loaded_plainly(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.train(config, sets=['classes=["b", "a"]', INIT, *STILL], work_dir="fewer")
    old, fewer = logits(config, "old", '["a", "b", "c"]'), logits(config, "fewer", '["b", "a"]')
    assert torch.equal(fewer, old[:, [1, 0]])
    capsys.readouterr()
    run.train(config, sets=['classes=["a", "b", "c"]', INIT, *STILL], work_dir="same")
    assert torch.equal(logits(config, "same", '["a", "b", "c"]'), old)
    assert "init_from old/checkpoints/last.pt: classes" not in capsys.readouterr().out


def test_bare_weights_name_no_classes(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.load("old/checkpoints/last.pt", weights_only=True)["model"]
    torch.save({f"net.{name}": value for name, value in model.items()}, "bare.pt")
    bare = 'init_from={from="bare.pt", prefix="net."}'
    run.train(config, sets=['classes=["x", "y", "z"]', bare, *STILL], work_dir="same")
    assert torch.equal(logits(config, "same", '["x", "y", "z"]'), logits(config, "old", '["a", "b", "c"]'))
    assert "init_from bare.pt: classes are not named, loaded row by row: head.cls.weight, head.cls.bias" in (
        capsys.readouterr().out
    )
    run.train(config, sets=[bare, *STILL], work_dir="fewer")
    assert "2 mismatched (head.cls.weight 3x8 for 2x8, head.cls.bias 3 for 2)" in capsys.readouterr().out


def test_a_resumed_run_does_not_read_it(config: str) -> None:
    sets = ['classes=["a", "b", "c"]', 'init_from="nowhere.pt"']
    run.train(config, sets=[*sets, "train.epochs=4"], resume="old/checkpoints/last.pt")
    with pytest.raises(UserError, match=r"init_from: nowhere\.pt does not exist"):
        run.train(config, sets=sets, work_dir="new")


def test_what_fits_nowhere_is_refused(config: str) -> None:
    torch.save({"w": torch.ones(1)}, "other.pt")
    with pytest.raises(CheckpointError, match=r'other\.pt": init_from: nothing in it fits OneStage: loaded 0 tensors'):
        run.train(config, sets=['init_from="other.pt"'], work_dir="new")
    with pytest.raises(UserError, match=r"init_from: found 3, wanted str \| Mapping\[str, str\] \| None"):
        run.train(config, sets=["init_from=3"], work_dir="new")


def test_a_number_of_classes_in_the_config_is_in_the_way(config: str) -> None:
    with pytest.raises(UserError) as caught:
        run.train(config, sets=["model.head.num_classes=2", INIT], work_dir="new")
    assert str(caught.value).endswith(
        "2 given to dense_head ToyHead (local toy_plugin.py), but init_from, which looks for what one class more adds, gives "
        "3. Remove the key: the build fills it."
    )
