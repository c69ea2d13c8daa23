"""The helper of the parity tests finds what is wrong: these tests break a small case in every way it should notice."""

from __future__ import annotations

import json
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detcore.structures import Batch, Detections
from parity import golden
from torch import Tensor, nn

NAMES = {"weight": "fc.weight", "bias": "fc.bias"}


def formula_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


FORMULA = SimpleNamespace(
    weight=formula_weight,
    images=lambda: np.ones((2, 3, 4, 6), np.float32),
    masks=lambda image: np.ones((2 - image, 4, 6), np.uint8),
    BOXES=[[[0, 0, 4, 4], [1, 1, 3, 3]], [[0, 0, 6, 4]]],
    LABELS=[[1, 0], [2]],
    IMAGE_SIZES=[(4, 6), (3, 5)],
    HEIGHT=4,
    WIDTH=6,
    ORIGINAL_SCALE=2.0,
)


def case(**arrays: object) -> golden.Case:
    info = {"state_dict": [["fc.weight", [2, 3]], ["fc.bias", [2]]], "trainable": ["fc.weight", "fc.bias"]}
    return golden.Case("toy", info, {key: np.asarray(value) for key, value in arrays.items()}, FORMULA)


class Toy(nn.Linear):
    """Loss: the mean square of its answer to the images' columns."""

    def __init__(self) -> None:
        super().__init__(3, 2)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss_fit": (self(batch.images[..., :3, 0]) ** 2).mean(), "accuracy": torch.ones(())}


def toy_reference() -> golden.Case:
    """The toy's own outputs, with torch's clipping instead of the helper's."""
    empty, toy = case(), Toy()
    empty.fill(toy, NAMES.get)
    batch = empty.batch()
    loss = toy.losses(batch)["loss_fit"]
    loss.backward()
    norms = [float(parameter.grad.double().norm()) for parameter in toy.parameters()]  # type: ignore[union-attr]
    optimizer = torch.optim.SGD(toy.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    curve = []
    for _ in range(6):
        optimizer.zero_grad()
        step = toy.losses(batch)["loss_fit"]
        curve.append(step.item())
        step.backward()
        nn.utils.clip_grad_norm_(toy.parameters(), 1.0)
        optimizer.step()
    values = {"loss.fit_loss": loss.item(), "loss": loss.item(), "grad_norms": norms, "curve": curve}
    return case(**values, grad_norm=np.linalg.norm(norms))


def test_filling_gives_every_tensor_the_value_of_its_reference_name() -> None:
    toy = Toy()
    assert case().fill(toy, golden.rename((r"^(?=weight|bias)", "fc."))) == NAMES
    assert np.array_equal(toy.weight.detach().numpy(), formula_weight("fc.weight", (2, 3)))
    assert np.array_equal(toy.bias.detach().numpy(), formula_weight("fc.bias", (2,)))


@pytest.mark.parametrize(
    ("module", "names", "message"),
    [
        (nn.Linear(3, 2, bias=False), NAMES, "fc.bias: the reference has it, we do not"),
        (nn.Linear(3, 2), {"weight": "fc.weight", "bias": "fc.offset"}, "bias -> fc.offset: not in the reference"),
        (nn.Linear(2, 3), NAMES, r"weight \(3, 2\) -> fc.weight \(2, 3\): other shape"),
        (nn.Linear(3, 2), {"weight": "fc.weight", "bias": "fc.weight"}, "fc.weight: stands for several of ours"),
        (nn.Linear(3, 2), {"weight": "fc.weight"}, "fc.bias: the reference has it, we do not"),
    ],
)
def test_a_name_or_shape_that_does_not_fit_fails(module: nn.Module, names: dict[str, str], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        case().fill(module, names.get)


def test_only_a_buffer_without_a_reference_value_may_be_on_one_side_alone() -> None:
    toy = Toy()
    toy.register_buffer("edges", torch.zeros(3))
    assert case().fill(toy, NAMES.get) == NAMES
    toy.register_parameter("extra", nn.Parameter(torch.zeros(1)))
    with pytest.raises(AssertionError, match="extra: is ours alone"):
        case().fill(toy, NAMES.get)
    with pytest.raises(AssertionError, match=r"fc\.bias: has a value, cannot be absent"):
        case().fill(nn.Linear(3, 2, bias=False), NAMES.get, absent=["fc.bias"])
    with pytest.raises(AssertionError, match="edges: declared absent, is not"):
        case().fill(Toy(), NAMES.get, absent=["edges"])


def test_the_batch_pads_objects_and_says_which_are_valid() -> None:
    batch = case().batch()
    assert batch.truth.boxes.shape == (2, 2, 4)
    assert batch.truth.valid.tolist() == [[True, True], [True, False]]
    assert not batch.truth.crowd.any()
    assert batch.sizes.tolist() == [[4, 6], [3, 5]]
    assert batch.padded.tolist() == [[4, 6], [4, 6]]
    assert batch.scale.tolist() == [[2, 2], [2, 2]]
    assert [tuple(masks.shape) for masks in batch.truth.masks] == [(2, 4, 6), (1, 4, 6)]


@pytest.mark.parametrize("fault", [1e-3, float("nan"), float("inf")])
@pytest.mark.parametrize("stored", ["whole", "sampled"])
def test_a_perturbed_map_fails(fault: float, stored: str) -> None:
    ours = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    key, values = "raw.0.1", ours.numpy()
    where = np.random.default_rng(zlib.crc32(key.encode())).integers(0, ours.numel(), 1024)
    sample = {
        f"{key}|shape": ours.shape,
        f"{key}|norm": np.linalg.norm(values),
        f"{key}|sample": values.flatten()[where],
    }
    reference = case(**{"raw.0.0": values, **({key: values} if stored == "whole" else sample)})
    reference.check_maps("raw", [[ours, ours * (1 + 5e-5)]])
    wrong = ours.clone()
    wrong[1, 2, 3, 4] = ours.abs().max() * (1 + fault)
    with pytest.raises(AssertionError, match=r"^raw.0.1"):
        reference.check_maps("raw", [[ours, wrong]])


def test_maps_must_have_the_same_keys_and_shapes() -> None:
    reference = case(**{"feats.0": np.ones((2, 3)), "feats.1": np.ones((1, 3))})
    with pytest.raises(AssertionError, match=r"feats\.1: the reference has it, we do not"):
        reference.check_maps("feats", [torch.ones(2, 3)])
    with pytest.raises(AssertionError, match=r"feats\.2: not in the reference"):
        reference.check_maps("feats", [torch.ones(2, 3), torch.ones(1, 3), torch.ones(1, 3)])
    with pytest.raises(AssertionError, match=r"feats.1: shape \(2, 3\), not \(1, 3\)"):
        reference.check_maps("feats", [torch.ones(2, 3), torch.ones(2, 3)])


def test_losses_are_compared_term_by_term_and_in_sum() -> None:
    reference = case(**{"loss.cls_loss": 1.0, "loss.box_loss": 2.0, "loss.acc": 50.0, "loss": 3.0})
    names = {"loss_cls": "cls_loss", "loss_box": "box_loss"}
    ours = {"loss_cls": torch.tensor(1.0), "loss_box": torch.tensor(2.0)}
    reference.check_losses(ours, names)
    with pytest.raises(AssertionError, match=r"loss_box: 2\.5, not 2"):
        reference.check_losses({**ours, "loss_box": torch.tensor(2.5)}, names)
    with pytest.raises(AssertionError, match="loss_box: nan, not 2"):
        reference.check_losses({**ours, "loss_box": torch.tensor(float("nan"))}, names)
    with pytest.raises(AssertionError, match="box_loss: of the reference, not mapped"):
        reference.check_losses({"loss_cls": torch.tensor(1.0)}, {"loss_cls": "cls_loss"})
    with pytest.raises(AssertionError, match="loss_extra: not mapped"):
        reference.check_losses({**ours, "loss_extra": torch.tensor(0.0)}, names)


def test_training_is_compared_by_gradients_and_curve() -> None:
    reference, toy = toy_reference(), Toy()
    names = reference.fill(toy, NAMES.get)
    reference.check_training(toy, names, {"loss_fit": "fit_loss"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "message"), [("curve", r"curve\[5\]"), ("grad_norms", "fc.bias"), ("grad_norm", "grad_norm")]
)
@pytest.mark.parametrize("fault", [1.01, float("nan")])
def test_a_perturbed_step_or_gradient_fails(key: str, message: str, fault: float) -> None:
    reference, toy = toy_reference(), Toy()
    names = reference.fill(toy, NAMES.get)
    reference.arrays[key].flat[-1] *= fault
    with pytest.raises(AssertionError, match=message):
        reference.check_training(toy, names, {"loss_fit": "fit_loss"})  # type: ignore[arg-type]


def test_a_parameter_that_should_not_train_fails() -> None:
    reference, toy = toy_reference(), Toy()
    names = reference.fill(toy, NAMES.get)
    reference.info["trainable"].remove("fc.bias")
    with pytest.raises(AssertionError, match=r"fc\.bias: does not train in the reference"):
        reference.check_gradients(toy, names)
    toy.weight.requires_grad_(False)
    with pytest.raises(AssertionError, match=r"fc\.weight: trains in the reference only"):
        reference.check_gradients(toy, names)


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels))


BOXES = [[0.0, 0.0, 5.0, 5.0], [1.0, 1.0, 3.0, 4.0], [2.0, 2.0, 4.0, 4.0]]
REFERENCE = {
    "pred.0.boxes": 2 * np.array(BOXES, np.float32),
    "pred.0.scores": np.array([0.9, 0.5, 0.2], np.float32),
    "pred.0.labels": np.array([0, 1, 1]),
}


def test_detections_match_in_any_order_and_the_lowest_may_be_another() -> None:
    reference = case(**REFERENCE)
    reference.check_detections([found([BOXES[1], BOXES[0], [0.0, 0, 1, 1]], [0.50005, 0.9, 0.2], [1, 0, 2])])


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        (BOXES, [0.9, 0.5, 0.2], [0, 0, 1], "the reference's detection 1"),
        (BOXES, [0.9, 0.5003, 0.2], [0, 1, 1], "our detection 1"),
        ([[0.0, 0, 5, 5.1], *BOXES[1:]], [0.9, 0.5, 0.2], [0, 1, 1], "our detection 0"),
        ([*BOXES, BOXES[0]], [0.9, 0.5, 0.2, 0.9], [0, 1, 1, 0], "our detection 3"),  # twice the same: one partner each
        (BOXES[:1], [0.9], [0], "the reference's detection 1"),
        ([[float("nan")] * 4, *BOXES[1:]], [0.9, 0.5, 0.2], [0, 1, 1], "not finite"),
        ([], [], [], "the reference's detection 0"),
    ],
)
def test_a_wrong_missing_or_extra_detection_fails(
    boxes: list[list[float]], scores: list[float], labels: list[int], message: str
) -> None:
    case(**REFERENCE).check_detections([found(BOXES, [0.9, 0.5, 0.2], [0, 1, 1])])
    with pytest.raises(AssertionError, match=message):
        case(**REFERENCE).check_detections([found(boxes, scores, labels)])


def test_a_matching_is_found_where_greedy_pairs_would_fail() -> None:
    first, second = [0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 5.0, 5.02]  # ours: the first fits both, the second only one
    reference = {"pred.0.boxes": np.array([[0, 0, 10, 10.04], [0, 0, 10, 9.96]]), "pred.0.scores": np.array([0.9, 0.9])}
    reference |= {"pred.0.labels": np.array([0, 0])}
    low = {key: np.concatenate([value, value[:1]]) for key, value in reference.items()}
    low["pred.0.scores"][2] = 0.1
    case(**low).check_detections([found([first, second, first], [0.9, 0.9, 0.1], [0, 0, 0])])


def test_mask_areas_belong_to_the_match() -> None:
    reference = case(**REFERENCE, **{"pred.0.mask_area": np.array([1000, 400, 9])})
    ours = found(BOXES, [0.9, 0.5, 0.2], [0, 1, 1])
    reference.check_detections([ours], [torch.tensor([1005, 404, 9])])
    with pytest.raises(AssertionError, match="our detection 1"):
        reference.check_detections([ours], [torch.tensor([1005, 405, 9])])


def test_the_number_of_images_must_agree() -> None:
    with pytest.raises(AssertionError, match="1 images, not 2"):
        case(**REFERENCE, **{"pred.1.scores": np.zeros(0)}).check_detections([found(BOXES, [0.9, 0.5, 0.2], [0, 1, 1])])


def test_given_maps_keep_their_outputs_and_levels() -> None:
    given = case(**{f"in.{o}.{level}": np.full(1, 10 * o + level) for o in range(2) for level in range(3)}).given()
    assert [[int(level) for level in output] for output in given] == [[0, 1, 2], [10, 11, 12]]


def test_without_the_folder_a_test_skips_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("DETCORE_TEST_GOLDEN", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="no golden cases in"):
        golden.load("fcos_r50_caffe_gn")


def test_every_case_of_the_folder_loads() -> None:
    for path in sorted(golden.folder().glob("*.json")):
        found = golden.load(path.stem)
        assert found.info == json.loads(path.read_text())
        assert found.arrays


# ------------------------------------------------------------------------------------------------ the order of regions

ROWS = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])


@pytest.mark.parametrize(
    ("scores", "ours", "order"),
    [
        ([[0.9, 0.9, 0.5, 0.4]], [1, 0, 2, 3], [1, 0, 2, 3]),  # equal: swapped back
        ([[0.9, 0.9, 0.9, 0.9]], [3, 0, 1, 2], [1, 2, 3, 0]),
        ([[0.9, 0.9 - 4e-7, 0.5, 0.4]], [1, 0, 2, 3], [1, 0, 2, 3]),
        ([[0.9, 0.9 - 4e-6, 0.5, 0.4]], [1, 0, 2, 3], [0, 1, 2, 3]),  # clearly in order: not swapped
        ([[0.9, 0.5], [0.5, 0.4]], [0, 2, 1, 3], [0, 1, 2, 3]),  # of two images: not swapped
    ],
)
def test_regions_of_equal_scores_may_be_swapped(scores: list[list[float]], ours: list[int], order: list[int]) -> None:
    rows = {"raw.0.0": ROWS[ours], "raw.0.1": -ROWS[ours]}
    stored = case(**{"raw.0.0": ROWS.numpy(), "raw.0.1": -ROWS.numpy()})
    assert stored.order(rows, [torch.tensor(each) for each in scores]).tolist() == order


def test_a_region_is_the_same_where_all_its_numbers_are() -> None:
    """Class logits alone would let the first row stay; one that fits nowhere takes the place that is left."""
    stored = case(**{"raw.0.0": np.ones((3, 2)), "raw.0.1": ROWS[:3].numpy()})
    equal = [torch.full((3,), 0.9)]
    ones = torch.ones(3, 2)
    assert stored.order({"raw.0.0": ones, "raw.0.1": ROWS[[2, 1, 0]]}, equal).tolist() == [2, 1, 0]
    assert stored.order({"raw.0.0": ones, "raw.0.1": ROWS[[3, 0, 2]]}, equal).tolist() == [1, 0, 2]
    assert stored.order({"raw.0.0": ones, "raw.0.1": torch.full((3, 2), torch.nan)}, equal).tolist() == [0, 1, 2]
