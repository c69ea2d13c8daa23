"""CornerNet's parts by hand and against loops; that all of it computes the reference's is held by tests/parity."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from detcore.errors import ConfigError
from detcore.interfaces import Loss
from detcore.structures import Batch, Targets, total_loss
from detcore_cornernet.cornernet import (
    CornerHead,
    CornerMaps,
    CornerPair,
    Pairing,
    corner_targets,
    draw_gaussians,
    gaussian_radius,
    last_of_each,
    running_max,
)
from detcore_cornernet.losses import AssociativeEmbeddingLoss, GaussianFocalLoss
from torch import Tensor, nn

SIZE = (64, 96)  # of the images; the maps are 16 x 24


class SmoothL1(Loss):
    def forward(
        self, input: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        assert weight is not None
        assert avg_factor is not None
        return (nn.functional.smooth_l1_loss(input, target, reduction="none") * weight[:, None]).sum() / avg_factor


def head(pairing: Pairing | None = None, channels: tuple[int, ...] = (8, 8)) -> CornerHead:
    return CornerHead(
        num_classes=3,
        in_channels=channels,
        loss_heatmap=GaussianFocalLoss(),
        loss_embedding=AssociativeEmbeddingLoss(),
        loss_offset=SmoothL1(),
        pairing=pairing or Pairing(),
    )


def truth(boxes: list[list[list[float]]], labels: list[list[int]]) -> Targets:
    most = max(map(len, boxes), default=0)
    padded = torch.zeros(len(boxes), most, 4)
    classes = torch.full((len(boxes), most), -1)
    for image, (its_boxes, its_labels) in enumerate(zip(boxes, labels, strict=True)):
        if its_boxes:
            padded[image, : len(its_boxes)] = torch.tensor(its_boxes)
            classes[image, : len(its_labels)] = torch.tensor(its_labels)
    return Targets(padded, classes, classes >= 0, torch.zeros_like(classes, dtype=torch.bool))


def batch_of(targets: Targets | None = None, images: int = 2) -> Batch:
    sizes = torch.tensor([[64.0, 96.0], [50.0, 70.0]])[:images]
    return Batch(torch.randn(images, 3, *SIZE), sizes, sizes, torch.ones(images, 2), range(images), targets)


def features(images: int = 2) -> list[Tensor]:
    return [torch.randn(images, 8, 16, 24) for _ in range(2)]


# --------------------------------------------------------------------------------------------------- corner pooling


def looped_max(x: Tensor, dim: int, from_end: bool) -> Tensor:
    slices = list(x.unbind(dim))
    slices = slices[::-1] if from_end else slices
    for i in range(1, len(slices)):
        slices[i] = torch.maximum(slices[i], slices[i - 1])
    return torch.stack(slices[::-1] if from_end else slices, dim)


@pytest.mark.parametrize("from_end", [False, True])
@pytest.mark.parametrize("dim", [2, 3])
def test_the_running_maximum_and_its_gradient_are_those_of_a_loop(dim: int, from_end: bool) -> None:
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    ours, theirs = running_max(x, dim, from_end=from_end), looped_max(x, dim, from_end)
    assert torch.equal(ours, theirs)
    weight = torch.randn_like(x)
    gradients = [torch.autograd.grad((each * weight).sum(), x)[0] for each in (ours, theirs)]
    torch.testing.assert_close(gradients[0], gradients[1])
    assert torch.autograd.gradcheck(lambda y: running_max(y, dim, from_end=from_end), (x[:1, :1],))


def test_a_top_left_corner_sees_what_is_right_of_it_and_below() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 2, 1] = 1
    assert running_max(x, 2, from_end=True)[0, 0, :, 1].tolist() == [1, 1, 1, 0]
    assert running_max(x, 3, from_end=True)[0, 0, 2].tolist() == [1, 1, 0, 0]
    assert running_max(x, 2, from_end=False)[0, 0, :, 1].tolist() == [0, 0, 1, 1]


# --------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("overlap", [0.3, 0.7])
@pytest.mark.parametrize("size", [(10.0, 20.0), (7.0, 7.0), (100.0, 3.0)])
def test_a_box_whose_corners_are_a_radius_off_keeps_the_overlap(size: tuple[float, float], overlap: float) -> None:
    width, height = size
    radius = float(gaussian_radius(torch.tensor(size, dtype=torch.float64), overlap))
    shifted = (width - radius) * (height - radius)
    worst = [
        shifted / (2 * width * height - shifted),
        (width - 2 * radius) * (height - 2 * radius) / (width * height),
        width * height / ((width + 2 * radius) * (height + 2 * radius)),
    ]
    assert min(worst) == pytest.approx(overlap)


def looped_targets(targets: Targets) -> tuple[list[Tensor], list[dict[tuple[int, int, int], list[float]]]]:
    """Heatmaps of both corners, and offsets by (image, row, column), later objects over earlier ones: cell by cell."""
    heats = [torch.zeros(len(targets.boxes), 3, 16, 24) for _ in range(2)]
    offsets: list[dict[tuple[int, int, int], list[float]]] = [{}, {}]
    for image, boxes in enumerate(targets.boxes):
        for box, label, valid in zip(
            (boxes / 4).tolist(), targets.labels[image].tolist(), targets.valid[image], strict=True
        ):
            if not valid:
                continue
            size = torch.tensor([math.ceil(box[2] - box[0]), math.ceil(box[3] - box[1])], dtype=torch.float32)
            radius = max(0, int(gaussian_radius(size, 0.3)))
            for corner in range(2):
                x, y = box[2 * corner], box[2 * corner + 1]
                column, row = int(min(x, 23)), int(min(y, 15))
                offsets[corner][image, row, column] = [x - column, y - row]
                for i in range(max(0, row - radius), min(16, row + radius + 1)):
                    for j in range(max(0, column - radius), min(24, column + radius + 1)):
                        height = math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * ((2 * radius + 1) / 6) ** 2))
                        heats[corner][image, label, i, j] = max(float(heats[corner][image, label, i, j]), height)
    return heats, offsets


def crowd_of(objects: int, images: int = 2) -> Targets:
    generator = torch.Generator().manual_seed(objects)
    corners = torch.rand(images, objects, 2, 2, generator=generator).sort(2).values
    boxes = (corners * torch.tensor([96.0, 64.0])).flatten(2)
    labels = torch.randint(0, 3, (images, objects), generator=generator)
    valid = torch.rand(images, objects, generator=generator) < 0.8
    return Targets(boxes, labels, valid, ~valid)


@pytest.mark.parametrize("limit", [None, 5000])
@pytest.mark.parametrize("objects", [1, 7, 60])
def test_targets_are_those_of_a_loop_over_objects_and_cells(
    objects: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit:
        monkeypatch.setattr("detcore_cornernet.cornernet.DRAW_LIMIT", limit)
    targets = crowd_of(objects)
    heats, offsets = looped_targets(targets)
    for ours, heat, offset in zip(corner_targets(targets, SIZE, (3, 16, 24)), heats, offsets, strict=True):
        torch.testing.assert_close(ours.heat, heat, rtol=1e-5, atol=1e-6)
        assert torch.equal(ours.heat == 1, heat == 1)
        asked = ours.weight.nonzero().tolist()
        found = {
            (b, int(ours.cell[b, g]) // 24, int(ours.cell[b, g]) % 24): ours.offset[b, g].tolist() for b, g in asked
        }
        assert len(found) == len(asked)
        assert found.keys() == offset.keys()
        assert all(found[key] == pytest.approx(offset[key], abs=1e-5) for key in found)


def test_a_corner_on_the_far_edge_belongs_to_the_last_cell() -> None:
    targets = truth([[[8.0, 8.0, 96.0, 64.0]]], [[2]])
    top_left, bottom_right = corner_targets(targets, SIZE, (3, 16, 24))
    assert top_left.cell.tolist() == [[2 * 24 + 2]]
    assert bottom_right.cell.tolist() == [[15 * 24 + 23]]
    assert bottom_right.offset.tolist() == [[[1.0, 1.0]]]
    assert bottom_right.heat[0, 2, 15, 23] == 1


def test_the_last_of_the_valid_objects_of_a_cell_is_asked() -> None:
    cell = torch.tensor([[4, 4, 4, 5, 0]])
    valid = torch.tensor([[True, True, False, True, False]])
    assert last_of_each(cell, valid).tolist() == [[0, 1, 0, 1, 0]]


def test_no_object_draws_an_empty_map() -> None:
    none = torch.zeros(2, 0)
    heat = draw_gaussians(torch.zeros(2, 0, 2), none, none.long(), none.bool(), (3, 4, 5))
    assert heat.shape == (2, 3, 4, 5)
    assert not heat.any()


# ---------------------------------------------------------------------------------------------------------- losses


def test_the_focal_loss_of_a_heatmap_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 2.0]])
    target = torch.tensor([[1.0, 0.5, 0.0]])
    p = 1 / (1 + math.exp(-2))
    parts = [0.25 * math.log(2), 0.25 * 0.5**4 * math.log(2), -(p**2) * math.log(1 - p)]
    loss = GaussianFocalLoss(loss_weight=2.0)
    assert float(loss(logits, target, avg_factor=4)) == pytest.approx(2 * sum(parts) / 4, rel=1e-5)
    assert float(loss(logits, target)) == pytest.approx(2 * sum(parts) / 3, rel=1e-5)
    assert float(loss(logits, target, torch.tensor([0.5]), 1)) == pytest.approx(sum(parts), rel=1e-5)


def test_the_focal_loss_is_finite_where_a_sigmoid_saturates() -> None:
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = GaussianFocalLoss()(logits, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_tags_are_pulled_and_pushed_by_hand() -> None:
    top_left = torch.tensor([[0.0, 1.0, 9.0], [5.0, 7.0, 7.0]])
    bottom_right = torch.tensor([[0.4, 1.0, 9.0], [5.2, 7.0, 7.0]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    losses = AssociativeEmbeddingLoss(pull_weight=0.1, push_weight=0.5)(top_left, bottom_right, valid)
    assert float(losses["loss_pull"]) == pytest.approx(0.1 * (2 * 0.2**2 / 2 + 2 * 0.1**2))  # means 0.2, 1.0 and 5.1
    assert float(losses["loss_push"]) == pytest.approx(0.5 * (1 - 0.8))  # two ordered pairs over 2 * 1


@pytest.mark.parametrize("objects", [0, 3])
def test_without_objects_losses_are_finite_and_reach_every_parameter(objects: int) -> None:
    module = head()
    targets = Targets(
        boxes=torch.zeros(2, objects, 4),
        labels=torch.full((2, objects), -1),
        valid=torch.zeros(2, objects, dtype=torch.bool),
        crowd=torch.zeros(2, objects, dtype=torch.bool),
    )
    batch = batch_of(targets)
    losses = module.losses(module(features(), batch), batch)
    assert set(losses) == {"loss_heatmap", "loss_offset", "loss_pull", "loss_push"}
    assert [losses[name].item() for name in ("loss_offset", "loss_pull", "loss_push")] == [0, 0, 0]
    total_loss(losses).backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in module.parameters())


def test_many_objects_are_trained_on() -> None:
    module = head()
    batch = batch_of(crowd_of(700))
    losses = module.losses(module(features(), batch), batch)
    total_loss(losses).backward()
    assert all(torch.isfinite(each) for each in losses.values())
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in module.parameters())


def test_an_image_s_losses_do_not_depend_on_padding_rows() -> None:
    module = head().eval()
    maps, targets = features(), crowd_of(6)
    more = attrs.evolve(
        targets,
        boxes=torch.cat([targets.boxes, torch.rand(2, 5, 4) * 50], 1),
        labels=torch.cat([targets.labels, torch.full((2, 5), -1)], 1),
        valid=torch.cat([targets.valid, torch.zeros(2, 5, dtype=torch.bool)], 1),
    )
    one, other = (module.losses(module(maps, batch_of(each)), batch_of(each)) for each in (targets, more))
    assert all(torch.allclose(one[name], other[name]) for name in one)


def test_training_runs_under_bfloat16_autocast_in_float32_losses() -> None:
    module, batch = head(), batch_of(crowd_of(5))
    with torch.autocast("cpu", torch.bfloat16):
        predictions = module(features(), batch)
        losses = module.losses(predictions, batch)
        found = module.detections(predictions, batch)
    assert predictions[0].top_left.heat.dtype == torch.bfloat16
    assert {each.dtype for each in losses.values()} == {torch.float32}
    assert {each.boxes.dtype for each in found} == {torch.float32}
    total_loss(losses).backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in module.parameters())


def test_losses_are_the_same_compiled() -> None:
    module, maps, batch = head(), features(), batch_of(crowd_of(5))

    def losses() -> dict[str, Tensor]:
        return module.losses(module(maps, batch), batch)

    eager, compiled = losses(), torch.compile(losses, backend="aot_eager")()
    assert all(torch.allclose(eager[name], compiled[name]) for name in eager)
    total_loss(compiled).backward()
    assert all(each.grad is not None for each in module.parameters())


# ------------------------------------------------------------------------------------------------------ detections


def maps_of(corners: list[tuple[int, int, int, float, float]], images: int = 1) -> CornerMaps:
    """Maps with peaks at (class, row, column, probability, tag) in every image; offsets are a quarter and a half cell."""
    heat = torch.full((images, 3, 16, 24), -20.0)
    tag = torch.zeros(images, 1, 16, 24)
    for label, row, column, probability, value in corners:
        heat[:, label, row, column] = math.log(probability / (1 - probability))
        tag[:, 0, row, column] = value
    offset = torch.tensor([0.25, 0.5]).view(1, 2, 1, 1).expand(images, 2, 16, 24)
    return CornerMaps(heat, tag, offset)


def detect(top_left: CornerMaps, bottom_right: CornerMaps, **pairing: float) -> list[tuple[list[float], float, int]]:
    batch = batch_of(images=len(top_left.heat))
    settings = Pairing(corner_topk=10, min_score=0.6, sigma=1e6, **pairing)  # type: ignore[arg-type]  # no suppression
    found = head(settings).detections([CornerPair(top_left, bottom_right)], batch)[-1]
    return [
        (box, round(score, 4), label)
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    ]


def test_corners_with_like_tags_make_a_box() -> None:
    top_left = maps_of([(1, 2, 3, 0.9, 1.0), (1, 4, 5, 0.8, 3.0)])
    bottom_right = maps_of([(1, 10, 12, 0.7, 1.3), (1, 12, 20, 0.6, 2.9)])
    assert detect(top_left, bottom_right) == [([13, 10, 49, 42], 0.8, 1), ([21, 18, 81, 50], 0.7, 1)]


def test_corners_of_other_classes_or_in_the_wrong_order_make_none() -> None:
    top_left = maps_of([(1, 8, 8, 0.9, 0.0)])
    assert detect(top_left, maps_of([(2, 12, 12, 0.9, 0.0)])) == []
    assert detect(top_left, maps_of([(1, 12, 8, 0.9, 0.0)])) == []  # no width
    assert detect(top_left, maps_of([(1, 4, 12, 0.9, 0.0)])) == []
    assert detect(top_left, maps_of([(1, 12, 12, 0.9, 0.6)])) == []  # tags 0.6 apart
    assert len(detect(top_left, maps_of([(1, 12, 12, 0.9, 0.6)]), distance_threshold=0.7)) == 1


def test_only_the_highest_of_a_neighbourhood_is_a_corner() -> None:
    top_left = maps_of([(0, 2, 2, 0.9, 0.0), (0, 2, 3, 0.8, 0.0), (0, 2, 5, 0.7, 0.0)])
    bottom_right = maps_of([(0, 12, 12, 0.9, 0.0)])
    assert {box[0] for box, *_ in detect(top_left, bottom_right)} == {9, 21}
    assert {box[0] for box, *_ in detect(top_left, bottom_right, local_maximum_kernel=1)} == {9, 13, 21}


def test_boxes_are_clipped_to_their_image_unless_the_reference_is_wanted() -> None:
    top_left, bottom_right = maps_of([(0, 2, 2, 0.9, 0.0)], images=2), maps_of([(0, 15, 23, 0.9, 0.0)], images=2)
    assert [box for box, *_ in detect(top_left, bottom_right)] == [[9, 10, 70, 50]]
    assert [box for box, *_ in detect(top_left, bottom_right, clip=False)] == [[9, 10, 93, 62]]


def test_few_cells_and_no_peaks_are_no_error() -> None:
    maps = CornerMaps(torch.full((2, 3, 2, 2), -200.0), torch.zeros(2, 1, 2, 2), torch.zeros(2, 2, 2, 2))
    found = head().detections([CornerPair(maps, maps)], batch_of())
    assert [len(each) for each in found] == [0, 0]


def test_images_do_not_see_each_other() -> None:
    module = head(Pairing(distance_threshold=5.0)).eval()
    maps, batch = features(), batch_of()
    both = module.detections(module(maps, batch), batch)
    alone = attrs.evolve(batch, images=batch.images[1:], sizes=batch.sizes[1:])
    second = module.detections(module([each[1:] for each in maps], alone), alone)[0]
    assert len(second) > 0
    torch.testing.assert_close(both[1].boxes, second.boxes)
    torch.testing.assert_close(both[1].scores, second.scores)


def test_a_head_refuses_another_number_of_maps() -> None:
    with pytest.raises(ValueError, match="zip"):
        head()(features()[:1], batch_of())


@pytest.mark.parametrize("kernel", [0, 2])
def test_a_square_without_a_centre_is_refused(kernel: int) -> None:
    with pytest.raises(ConfigError, match=rf"local_maximum_kernel = {kernel}\. It is odd and at least 1"):
        Pairing(local_maximum_kernel=kernel)
