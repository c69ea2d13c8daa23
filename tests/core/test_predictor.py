"""What scripts are given: the numbers of evaluation, from any kind of image, of a checkpoint that carries its config."""

from __future__ import annotations

import copy
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core.runner.tiny import TinyDataset, TinyDetector
from detcore import load_dataset, load_detector, run
from detcore.assemble import build, evaluation, load
from detcore.errors import UserError
from detcore.predictor import Predictor, Result
from detcore.preprocess import Preprocess
from detcore.structures import Detections
from detcore.trained import load_checkpoint
from installed_toys import CHECKPOINT, CONFIG, enter, train_toys
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import Resize


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_toys(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(trained, monkeypatch)


def tiny() -> Predictor:
    torch.manual_seed(0)
    detector = TinyDetector()
    return Predictor(detector=detector, preprocess=Preprocess(divisor=8), classes=("cat", "dog"), batch_size=2)


def same(one: Detections, other: Detections) -> bool:
    pairs = [(one.boxes, other.boxes), (one.scores, other.scores), (one.labels, other.labels)]
    return all(torch.equal(*pair) for pair in pairs)


# --------------------------------------------------------------------------------------------- what is predicted


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_predictions_are_the_detections_of_evaluation_bit_for_bit(amp: str) -> None:
    sets = [f"train.amp={amp}"]
    parts = build(*load("toy.toml", sets), "cpu", wanted=("model", "val"))
    load_checkpoint(parts, Path(CHECKPOINT))
    expected = evaluation(parts)(parts.model, samples=6).samples
    predictor = load_detector("toy.toml", CHECKPOINT, device="cpu", sets=sets)
    dataset = load_dataset("toy.toml")
    found = predictor.predict([dataset[index][0] for index in range(6)])
    assert len(found) == len(expected) == 6
    assert all(same(result.found, expected[index]) for index, result in enumerate(found))
    assert len({float(result.scores[0]) for result in found}) > 1  # it looks at the image


def test_every_kind_of_image_is_the_same_image(tmp_path: Path) -> None:
    predictor, image = tiny(), TinyDataset()[1][0].as_subclass(Tensor)
    array = image.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(array).save(tmp_path / "a.png")
    kinds: list[Any] = [image, array, Image.fromarray(array), tmp_path / "a.png", str(tmp_path / "a.png")]
    results = [predictor.predict(kind)[0] for kind in kinds]
    assert all(same(result.found, results[0].found) for result in results)
    assert [result.source for result in results] == [None, None, None, tmp_path / "a.png", tmp_path / "a.png"]
    assert {result.size for result in results} == {(16, 20)}


def test_a_result_for_each_image_in_order_whatever_their_sizes() -> None:
    predictor = tiny()
    images = [torch.full((3, 8 + 8 * number, 24), 20 * number, dtype=torch.uint8) for number in range(5)]
    results = predictor.predict(images)
    assert [result.size for result in results] == [(8, 24), (16, 24), (24, 24), (32, 24), (40, 24)]
    alone = [predictor.predict(image)[0] for image in images]
    apart = predictor.predict(images, batch_size=1)
    assert all(same(one.found, other.found) for one, other in zip(alone, apart, strict=True))
    assert predictor.predict([]) == []


def test_boxes_are_in_pixels_of_the_image_as_it_was_given() -> None:
    predictor = tiny()
    predictor.transforms = (Resize((8, 40)),)
    (result,) = predictor.predict(TinyDataset()[0][0])
    assert result.boxes.tolist() == [[0, 0, 4, 8]]  # 8 x 4 of 40 x 8, in an image of 20 x 16


def test_files_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.new("RGB", (20, 16)).save(tmp_path / "turned.jpg", exif=exif)
    assert tiny().predict(tmp_path / "turned.jpg")[0].size == (20, 16)


def test_nothing_of_the_detector_changes_and_no_gradient_is_made() -> None:
    predictor = tiny().train()
    before = copy.deepcopy(predictor.state_dict())
    (result,) = predictor.predict(TinyDataset()[0][0])
    assert not result.scores.requires_grad
    assert predictor.detector.norm.training
    assert all(torch.equal(value, before[name]) for name, value in predictor.state_dict().items())


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (3, "found 3,"),
        (np.zeros((4, 4), np.uint8), "found ndarray (4, 4) uint8,"),
        (np.zeros((4, 4, 3), np.float32), "found ndarray (4, 4, 3) float32,"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "found Tensor (4, 4, 3) torch.uint8,"),
        (torch.zeros(3, 4, 4), "found Tensor (3, 4, 4) torch.float32,"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, found: str) -> None:
    good = torch.zeros(3, 16, 16, dtype=torch.uint8)
    with pytest.raises(UserError) as caught:
        tiny().predict([good, good, image])
    wanted = "a path, a picture of Pillow, an array (H, W, 3) uint8 or a tensor (3, H, W) uint8"
    assert str(caught.value) == f"image 2: {found} wanted {wanted}"


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no")
    with pytest.raises(UserError, match=r"x\.png: not an image, or of an unknown format"):
        tiny().predict(tmp_path / "x.png")


# ------------------------------------------------------------------------------------------------- what is found


def result(masks: Tensor | None = None) -> Result:
    boxes = torch.tensor([[1.0, 0, 3, 2], [0, 0, 4, 4]])
    found = Detections(boxes, torch.tensor([0.75, 0.25]), torch.tensor([1, 0]), masks)
    return Result(found, ("cat", "dog"), (4, 6))


def test_a_result_has_names_and_can_be_cut_by_score() -> None:
    assert result().names == ["dog", "cat"]
    assert len(result()) == 2
    assert result().above(0.25).scores.tolist() == [0.75, 0.25]
    assert result().above(0.3).names == ["dog"]
    assert len(result().above(1)) == 0
    assert len(tiny().predict(TinyDataset()[0][0], score=1.0)[0]) == 0


def test_a_result_as_torchvision_and_coco_have_it() -> None:
    made = result().to_torchvision()
    assert {name: value.tolist() for name, value in made.items()} == {
        "boxes": [[1, 0, 3, 2], [0, 0, 4, 4]], "labels": [1, 0], "scores": [0.75, 0.25],
    }  # fmt: skip
    assert result().above(0.5).to_coco(7) == [{"image_id": 7, "category_id": 2, "bbox": [1, 0, 2, 2], "score": 0.75}]
    assert [row["category_id"] for row in result().to_coco("a", [18, 17])] == [17, 18]


def test_masks_are_pasted_into_the_image() -> None:
    whole = result(torch.ones(2, 3, 3))
    masks = whole.masks
    assert masks is not None
    assert masks.shape == (2, 4, 6)
    assert masks.sum((1, 2)).tolist() == [4, 16]
    assert torch.equal(whole.to_torchvision()["masks"], masks)
    assert whole.to_coco(1)[0]["segmentation"]["size"] == [4, 6]
    none = whole.above(1).masks
    assert none is not None
    assert none.shape == (0, 4, 6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("masks", [None, torch.ones(2, 3, 3)])
def test_a_result_as_supervision_has_it(masks: Tensor | None) -> None:
    pytest.importorskip("supervision", reason="the optional package supervision is not installed")
    made = result(masks).to_supervision()
    assert made.xyxy.tolist() == [[1, 0, 3, 2], [0, 0, 4, 4]]
    assert made.confidence.tolist() == [0.75, 0.25]
    assert made.class_id.tolist() == [1, 0]
    assert made["class_name"].tolist() == ["dog", "cat"]
    assert (made.mask is None) == (masks is None)
    assert len(result(masks).above(1).to_supervision()) == 0


def test_without_supervision_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError) as caught:
        result().to_supervision()
    line = "Result.to_supervision: supervision is not installed. Install it: pip install supervision."
    assert str(caught.value) == line


# ------------------------------------------------------------------------------------------------------- as a teacher


def test_parts_of_the_detector_are_reached_by_their_names() -> None:
    predictor = tiny()
    maps: dict[str, Tensor] = {}
    handle = predictor.get_submodule("norm").register_forward_hook(lambda module, given, made: maps.update(norm=made))
    predictor.predict(TinyDataset()[0][0])
    handle.remove()
    assert maps["norm"].shape == (1, 4, 8, 12)  # padded to 16 x 24, stride 2
    assert predictor.get_submodule("detector.conv") is predictor.conv
    with pytest.raises(AttributeError, match="neck"):
        predictor.get_submodule("neck")
    assert same(
        copy.deepcopy(predictor).predict(TinyDataset()[0][0])[0].found, predictor.predict(TinyDataset()[0][0])[0].found
    )


# ---------------------------------------------------------------------------------------------------------- loading


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("call", [{"source": CHECKPOINT}, {"checkpoint": CHECKPOINT}, {"source": Path(CHECKPOINT)}])
def test_a_checkpoint_alone_is_enough(call: dict[str, Any]) -> None:
    alone, beside = load_detector(**call, device="cpu"), load_detector("toy.toml", CHECKPOINT, device="cpu")
    image = load_dataset("toy.toml")[0][0]
    assert same(alone.predict(image)[0].found, beside.predict(image)[0].found)
    assert alone.classes == ("red", "green")
    assert (alone.batch_size, len(alone.transforms), alone.preprocess.divisor) == (4, 1, 16)
    assert not alone.training


@pytest.mark.usefixtures("here")
def test_options_change_the_config_that_a_checkpoint_carries() -> None:
    assert load_detector(CHECKPOINT, sets=["val.batch_size=2", "device=cpu"]).batch_size == 2
    with pytest.raises(UserError, match=r"typ=3: model\.head\.typ: not a parameter of dense_head ToyHead"):
        load_detector(CHECKPOINT, sets=["model.head.typ=3"])


def changed(folder: Path, **changes: Any) -> str:
    """A copy of the checkpoint with other content."""
    content = torch.load(CHECKPOINT, weights_only=True)
    content["meta"] |= changes.pop("meta", {})
    torch.save({**content, **changes}, folder / "changed.pt")
    return str(folder / "changed.pt")


@pytest.mark.usefixtures("here")
def test_local_modules_that_a_checkpoint_names_are_not_imported(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = CONFIG + f"[plugins]\nlocal = ['{tmp_path / 'evil.py'}']\n"
    with pytest.raises(UserError) as caught:
        load_detector(changed(tmp_path, meta={"config": config}))
    assert str(caught.value) == (
        f"{tmp_path / 'changed.pt'}: its config wants local modules ({tmp_path / 'evil.py'}), which no checkpoint can "
        "have imported. Name the config before it if you trust them."
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("source", ["_base_ = 'toy.toml'", "model = 3 = 4", "[model]\ntype = 'Gone'"])
def test_a_config_in_a_checkpoint_that_cannot_be_is_said_with_the_checkpoints_name(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"changed\.pt"):
        load_detector(changed(tmp_path, meta={"config": source}))


@pytest.mark.usefixtures("here")
def test_bare_weights_need_a_config(tmp_path: Path) -> None:
    weights = load_detector("toy.toml", CHECKPOINT).detector.state_dict()
    torch.save(weights, tmp_path / "bare.pt")
    with pytest.raises(UserError, match=r"bare\.pt: carries no config\. Name the config before it\."):
        load_detector(tmp_path / "bare.pt")
    assert torch.equal(load_detector("toy.toml", tmp_path / "bare.pt").head.cls.weight, weights["head.cls.weight"])
    with pytest.raises(UserError, match="neither a config nor a checkpoint is given"):
        load_detector()


@pytest.mark.usefixtures("here")
def test_weights_that_were_averaged_are_those_that_count(tmp_path: Path) -> None:
    averaged = {name: value + 1 for name, value in torch.load(CHECKPOINT, weights_only=True)["model"].items()}
    loaded = load_detector(changed(tmp_path, averaged=averaged))
    assert torch.equal(loaded.head.cls.weight, averaged["head.cls.weight"])


@pytest.mark.usefixtures("here")
def test_no_data_is_read_where_the_classes_are_known() -> None:
    none = ["val.dataset.length=0"]
    assert load_detector("toy.toml", sets=none).classes == ("red", "green")
    none.append("classes={_delete_=true}")
    assert load_detector("toy.toml", CHECKPOINT, sets=none).classes == ("red", "green")
    with pytest.raises(UserError, match=r"val\.dataset: has no image"):
        load_detector("toy.toml", sets=none)


@pytest.mark.usefixtures("here")
def test_weights_that_the_config_names_are_not_asked_for_beside_a_checkpoint() -> None:
    sets = ['model.backbone.weights="gone.pth"']
    load_detector("toy.toml", CHECKPOINT, sets=sets)
    with pytest.raises(UserError, match=r"gone\.pth"):
        load_detector("toy.toml", sets=sets)


@pytest.mark.usefixtures("here")
def test_images_that_are_normalised_otherwise_than_in_training_are_an_error() -> None:
    with pytest.raises(UserError) as caught:
        load_detector("toy.toml", CHECKPOINT, sets=["preprocess.color=bgr"])
    line = "was trained with preprocess.color = rgb, the config has bgr. Set it as it was."
    assert str(caught.value) == f"{CHECKPOINT}: {line}"
    with pytest.raises(UserError, match=r"was trained with preprocess\.mean = "):
        run.evaluate("toy.toml", CHECKPOINT, sets=["preprocess.mean=[0, 0, 0]"])


@pytest.mark.usefixtures("here")
def test_images_that_are_padded_otherwise_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_detector("toy.toml", CHECKPOINT, sets=["preprocess.divisor=64"]).preprocess.divisor == 64
    assert caplog.messages == [f"{CHECKPOINT}: was trained with preprocess.divisor = 16, the config has 64"]
