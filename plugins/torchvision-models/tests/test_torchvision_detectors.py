"""torchvision's detectors behind our interface: the same numbers, our labels, no second resizing, no download unasked."""

from __future__ import annotations

import re
import socket
from functools import cache
from typing import Any, get_type_hints

import attrs
import pytest
import torch
import torchvision
from detcore.errors import ConfigError, DataError
from detcore.interfaces import Detector, NumClasses
from detcore.structures import Batch, Polygons, Targets, total_loss
from detcore_torchvision_models import detectors
from torch import Tensor, nn

SOFTMAX = ("fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large")
SIGMOID = ("fcos_resnet50_fpn", "retinanet_resnet50_fpn")
MASKS = "maskrcnn_resnet50_fpn"
C = 3


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@cache
def made(name: str) -> Any:
    torch.manual_seed(0)
    return getattr(detectors, name)(num_classes=C)


def make(name: str) -> Any:
    """A detector in train mode, with the weights it was made with, except that it finds something."""
    detector = made(name)
    detector.zero_grad()
    if hasattr(detector.model, "head") and hasattr(detector.model.head.classification_head, "cls_logits"):
        nn.init.zeros_(detector.model.head.classification_head.cls_logits.bias)
    return detector.train()


def batch(padding: float = 0.0, labels: tuple[int, ...] = (0, 2, 1)) -> Batch:
    """Two images, 64x96 and 50x70; the first with two objects, the second with one."""
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    images[1, :, 50:] = padding
    images[1, :, :, 70:] = padding
    boxes = torch.tensor([[[4, 4, 60, 40], [50, 10, 90, 60]], [[10, 5, 60, 45], [0, 0, 0, 0]]], dtype=torch.float32)
    valid = torch.tensor([[True, True], [True, False]])
    masks = torch.zeros(2, 2, 64, 96, dtype=torch.uint8)
    masks[:, :, 20:40, 30:60] = 1
    targets = Targets(boxes, torch.tensor([labels[:2], (labels[2], 0)]), valid, ~valid & False, list(masks))
    sizes = torch.tensor([[64.0, 96.0], [50.0, 70.0]])
    return Batch(images, sizes, sizes, torch.ones(2, 2), ("a", "b"), targets)


def favour(detector: Any, channel: int) -> None:
    """Make every prior answer with this channel of the class logits, whatever the image."""
    model = detector.model
    if hasattr(model, "roi_heads"):
        layers, channels = [model.roi_heads.box_predictor.cls_score], C + 1
    elif hasattr(model.head.classification_head, "cls_logits"):
        layers, channels = [model.head.classification_head.cls_logits], C
    else:
        layers, channels = [each[-1] for each in model.head.classification_head.module_list], C + 1
    logits = torch.full((channels,), -4.0)
    logits[channel] = 4.0
    for layer in layers:
        nn.init.zeros_(layer.weight)
        layer.bias.data = logits.repeat(len(layer.bias) // channels)


@pytest.mark.parametrize(("name", "shift"), [*((name, 1) for name in SOFTMAX), *((name, 0) for name in SIGMOID)])
def test_labels_are_ours_on_the_way_in_and_out(name: str, shift: int) -> None:
    torch.manual_seed(0)
    detector = getattr(detectors, name)(num_classes=C)
    assert detector.first_label == shift
    for label in range(C):
        favour(detector, label + shift)
        for found in detector.detections(batch()):
            best = found.scores >= 0.5 if shift else torch.ones_like(found.labels, dtype=torch.bool)
            assert len(found) > 0
            assert set(found.labels[best].tolist()) <= {label}
            assert found.labels.min() >= 0
            assert found.labels.max() < C
        losses = []
        for wanted in range(C):
            torch.manual_seed(0)
            losses.append(total_loss(detector.losses(batch(labels=(wanted,) * 3))).item())
        assert min(range(C), key=losses.__getitem__) == label


@pytest.mark.parametrize("name", [*SOFTMAX, *SIGMOID, MASKS])
def test_every_loss_is_named_so_and_finite(name: str) -> None:
    losses = make(name).losses(batch())
    assert all("loss" in each for each in losses)
    assert all(torch.isfinite(each) for each in losses.values())
    expected = {
        "fcos_resnet50_fpn": {"loss_classification", "loss_bbox_regression", "loss_bbox_ctrness"},
        "ssdlite320_mobilenet_v3_large": {"loss_classification", "loss_bbox_regression"},
        MASKS: {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"},
    }
    assert set(losses) == expected.get(name, set(losses))


@pytest.mark.parametrize("name", [*SOFTMAX, *SIGMOID, MASKS])
def test_gradients_are_finite_and_reach_every_parameter_without_an_object(name: str) -> None:
    detector, empty = make(name), batch()
    nothing = torch.zeros_like(empty.truth.valid)
    total_loss(detector.losses(attrs.evolve(empty, targets=attrs.evolve(empty.truth, valid=nothing)))).backward()
    assert [name for name, each in detector.named_parameters() if each.grad is None] == []
    assert all(each.grad.isfinite().all() for each in detector.parameters())


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "fcos_resnet50_fpn"])
def test_numbers_are_torchvisions_on_images_of_their_own_size(name: str) -> None:
    detector, given = make(name), batch(padding=7.0)
    first = detector.first_label
    reference = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=C + first,
        image_mean=[0.0] * 3, image_std=[1.0] * 3,
    )  # fmt: skip
    reference.transform.resize = lambda image, target: (image, target)
    reference.load_state_dict(detector.model.state_dict())
    images = [given.images[0], given.images[1, :, :50, :70]]
    targets = [
        {"boxes": given.truth.boxes[0], "labels": given.truth.labels[0] + first},
        {"boxes": given.truth.boxes[1, :1], "labels": given.truth.labels[1, :1] + first},
    ]
    detector.eval()
    with torch.no_grad():
        expected = reference.eval()(images)
    for ours, theirs in zip(detector.detections(given), expected, strict=True):
        assert len(ours) > 0
        torch.testing.assert_close(ours.boxes, theirs["boxes"])
        torch.testing.assert_close(ours.scores, theirs["scores"])
        assert torch.equal(ours.labels, theirs["labels"] - first)
        assert torch.equal(ours.scores, ours.scores.sort(descending=True).values)
    torch.manual_seed(1)
    ours_losses = detector.train().losses(given)
    torch.manual_seed(1)
    their_losses = reference.train()(images, targets)
    torch.testing.assert_close(total_loss(ours_losses), torch.stack(list(their_losses.values())).sum())


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"])
def test_what_is_in_the_padding_does_not_matter(name: str) -> None:
    detector = make(name).eval()
    for one, other in zip(detector.detections(batch(0.0)), detector.detections(batch(9.0)), strict=True):
        assert len(one) > 0
        torch.testing.assert_close(one.scores, other.scores)
        torch.testing.assert_close(one.boxes, other.boxes)


def test_detections_lie_in_the_image_and_masks_come_along() -> None:
    detector = make(MASKS)
    for found, (height, width) in zip(detector.eval().detections(batch()), ((64, 96), (50, 70)), strict=True):
        assert len(found) > 0
        assert found.masks is not None
        assert found.masks.shape == (len(found), 28, 28)
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 0::2] <= width).all()
        assert (found.boxes[:, 1::2] <= height).all()


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "fcos_resnet50_fpn"])
def test_losses_and_detections_are_had_in_either_mode_and_leave_it(name: str) -> None:
    detector = make(name)
    for mode in (True, False):
        detector.train(mode)
        before = {name: module.training for name, module in detector.named_modules()}
        assert total_loss(detector(batch())).requires_grad
        assert len(detector(batch(), "detections")) == 2
        assert {name: module.training for name, module in detector.named_modules()} == before


def test_the_statistics_of_an_evaluation_stay() -> None:
    detector = make("ssdlite320_mobilenet_v3_large").eval()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.losses(batch())
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_options_reach_torchvision() -> None:
    name = "ssdlite320_mobilenet_v3_large"
    detector = getattr(detectors, name)(num_classes=C, options={"detections_per_img": 2, "score_thresh": 0.0})
    assert [len(found) for found in detector.detections(batch())] == [2, 2]


def test_weights_are_downloaded_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    state = torchvision.models.mobilenet_v3_large(weights=None).state_dict()

    def load(url: str, **options: Any) -> dict[str, Tensor]:
        asked.append(url)
        return state

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", load)
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    getattr(detectors, name)(num_classes=C)
    assert asked == []
    getattr(detectors, name)(num_classes=C, pretrained_backbone=True)
    assert [url.rpartition("/")[2] for url in asked] == ["mobilenet_v3_large-5c1a4163.pth"]


def test_the_namespace_has_torchvisions_detectors_and_nothing_else() -> None:
    assert {*SOFTMAX, *SIGMOID, MASKS, "ssd300_vgg16"} < set(dir(detectors))
    assert issubclass(detectors.fcos_resnet50_fpn, Detector)
    for name in ("keypointrcnn_resnet50_fpn", "resnet18", "Any"):
        with pytest.raises(AttributeError):
            getattr(detectors, name)


def test_hints_resolve() -> None:
    hints = get_type_hints(detectors.fcos_resnet50_fpn.__init__, include_extras=True)
    assert hints["num_classes"] == NumClasses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"detections_per_image": 5}},
         "options: detections_per_image is not one of its arguments. Did you mean \"detections_per_img\"?"),
        ({"options": {"min_size": 600}},
         "options: min_size cannot be given here. Give the size in the data's transforms."),
        ({"options": {"weights": "DEFAULT"}},
         "options: weights cannot be given here. Give pretrained = true beside options."),
        ({"pretrained": True},
         "pretrained: pretrained weights of 91 classes for 3. Give pretrained_backbone = true instead."),
        ({"options": {"anchor_generator": 3}}, "torchvision * cannot make fcos_resnet50_fpn: *"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        detectors.fcos_resnet50_fpn(num_classes=C, **options)
    pattern = ".*".join(map(re.escape, message.split("*")))
    assert re.fullmatch(pattern, str(caught.value)), caught.value


def test_bad_data_is_said_in_one_line() -> None:
    given = batch()
    flat = given.truth.boxes.clone()
    flat[1, 0, 2] = flat[1, 0, 0]
    points = Polygons(torch.zeros(4, 2), torch.tensor([0, 4]), torch.tensor([0]))
    cases: list[tuple[str, dict[str, Any], str]] = [
        (SIGMOID[0], {"boxes": flat},
         "image b: has a box without an area. Let the transform Sanitize drop such boxes."),
        (MASKS, {"masks": None}, "image a: has no masks. Let the dataset give masks."),
        (MASKS, {"masks": [points, points]},
         "image a: has polygons, torchvision's Mask R-CNN learns from masks. Let the dataset give masks."),
    ]  # fmt: skip
    for name, changes, message in cases:
        with pytest.raises(DataError) as caught:
            make(name).losses(attrs.evolve(given, targets=attrs.evolve(given.truth, **changes)))
        assert str(caught.value) == message
