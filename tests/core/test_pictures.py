from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detcore.callbacks.pictures import Pictures
from detcore.colors import color
from detcore.curves import curves, curves_figure, read_history, smoothed
from detcore.errors import DataError
from detcore.pictures import draw, font, samples_sheet
from detcore.runner.evaluate import Evaluation
from detcore.runner.logs import JsonlLog
from detcore.runner.train import train
from detcore.structures import Detections
from PIL import Image
from runner.tiny import TinyDataset, tiny_run

GREY = torch.full((3, 500, 1000), 128, dtype=torch.uint8)
"""Large enough to be drawn as it is."""
NAMES = ("lymphocyte of the blood", "platelet", "dog", *(f"class{number}" for number in range(77)))
ORANGE, BLUE = (213, 94, 0), (86, 180, 233)


def detections(*boxes: Sequence[float], labels: Sequence[int] = (), scores: Sequence[float] = (), masks: Any = None):
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    given = torch.tensor(scores or [0.5] * len(rows)), torch.tensor(labels or [0] * len(rows), dtype=torch.int64)
    return Detections(rows, *given, masks)


def target(*boxes: Sequence[float], **more: Any) -> dict[str, Any]:
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": rows, "labels": torch.zeros(len(rows), dtype=torch.int64), **more}


def pixels(picture: Image.Image) -> np.ndarray:
    """(H, W, 3)."""
    return np.asarray(picture).astype(int)


def count(picture: Image.Image, tone: Sequence[int]) -> int:
    return {each: times for times, each in picture.getcolors(1 << 24) or ()}.get(tuple(tone), 0)


# --------------------------------------------------------------------------------------------------------------- draw


def test_a_box_of_a_detection_is_in_its_colour_within_a_dark_edge() -> None:
    drawn = pixels(draw(GREY, detections([400, 100, 600, 300], labels=[1]), NAMES))
    for row, column in ((100, 580), (299, 500), (200, 400), (200, 599), (102, 580)):
        assert tuple(drawn[row, column]) == BLUE
    for row, column in ((99, 580), (300, 500), (200, 399), (200, 600)):
        assert tuple(drawn[row, column]) == tuple(part // 3 for part in BLUE)
    assert (drawn[103:297, 403:597] == 128).all()
    assert (drawn[:70] == 128).all()


def test_ground_truth_has_a_white_edge_and_a_white_label() -> None:
    truth, found = draw(GREY, target([400, 100, 600, 300]), NAMES), draw(GREY, detections([400, 100, 600, 300]), NAMES)
    assert truth.getpixel((500, 299)) == found.getpixel((500, 299)) == ORANGE
    assert truth.getpixel((500, 300)) == (255, 255, 255)
    assert truth.getpixel((402, 98)) == (255, 255, 255)
    assert found.getpixel((402, 98)) == ORANGE


PLACES = {
    "corners": [(0, 0, 90, 90), (910, 0, 1000, 90), (0, 410, 90, 500), (910, 410, 1000, 500)],
    "all": [(0, 0, 1000, 500)],
    "partly outside": [(-500, -500, 20, 20), (990, -50, 2000, 30), (980, 480, 1e6, 1e6), (-1e6, -1e6, 1e6, 1e6)],
    "outside": [(-50, -50, -10, -10), (1200, 700, 1300, 800)],
    "one pixel": [(0, 0, 1, 1), (999, 499, 1000, 500), (500, 250, 501, 251)],
    "no pixel": [(500, 250, 500, 250), (1000, 500, 1000, 500)],
}


@pytest.mark.parametrize("box", [*itertools.chain(*PLACES.values())])
def test_a_label_is_inside_the_picture_wherever_its_box_is(box: Sequence[float]) -> None:
    whole = draw(GREY, detections([400, 200, 600, 300]), NAMES)
    letters = count(whole, (255, 255, 255))
    assert letters > 50
    assert count(draw(GREY, detections(box), NAMES), (255, 255, 255)) == letters


def test_labels_of_the_same_place_are_side_by_side() -> None:
    def letters(objects: int) -> int:
        found = detections(*[[400, 200, 600, 300]] * objects, labels=[1] * objects)
        return count(draw(GREY, found, ["", "dog"]), (0, 0, 0))

    assert letters(1) > 10
    assert [letters(objects) for objects in (2, 4, 6)] == [2 * letters(1), 4 * letters(1), 6 * letters(1)]


def test_small_objects_are_drawn_over_large_ones() -> None:
    found = detections([450, 180, 550, 260], [400, 200, 600, 400], labels=[0, 1])
    drawn = draw(GREY, found, NAMES)
    assert drawn.getpixel((450, 200)) == ORANGE
    assert drawn.getpixel((500, 259)) == ORANGE
    assert drawn.getpixel((560, 200)) == BLUE


@pytest.mark.parametrize(("box", "seen"), [((500, 250, 501, 251), (500, 250)), ((999, 499, 1000, 500), (999, 499))])
def test_an_object_of_one_pixel_is_seen(box: Sequence[float], seen: tuple[int, int]) -> None:
    assert draw(GREY, detections(box), NAMES).getpixel(seen) == ORANGE


def test_only_what_scores_enough_and_is_finite_is_drawn() -> None:
    nan = float("nan")
    found = detections([400, 200, 600, 300], [10, 10, 90, 90], [nan, 0, 9, 9], scores=[0.3, 0.29, 0.9])
    assert draw(GREY, found, NAMES, threshold=0.3).getpixel((500, 299)) == ORANGE
    drawn = pixels(draw(GREY, found, NAMES, threshold=0.3))
    assert (drawn[:150] == 128).all()
    nothing = draw(GREY, found, NAMES, threshold=0.95)
    assert (pixels(nothing) == 128).all()


@pytest.mark.parametrize("found", [detections(), target(), {"image_id": 3}], ids=["detections", "target", "unlabelled"])
def test_an_image_without_objects_stays_as_it_is(found: Any) -> None:
    image = torch.randint(0, 255, (3, 500, 1000), dtype=torch.uint8)
    assert (pixels(draw(image, found, NAMES)) == image.permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize(
    ("size", "side", "drawn"),
    [
        ((96, 128), None, (1000, 750)),
        ((3000, 2000), None, (1067, 1600)),
        ((1200, 900), None, (900, 1200)),
        ((96, 128), 64, (64, 48)),
        ((1, 3000), None, (1600, 1)),
    ],
)
def test_small_images_are_enlarged_and_large_ones_reduced(size: Any, side: int | None, drawn: Any) -> None:
    image = torch.full((3, *size), 128, dtype=torch.uint8)
    height, width = size
    box = [width / 4, height / 4, width * 3 / 4, height * 3 / 4]
    picture = draw(image, detections(box), NAMES, side=side)
    assert picture.size == drawn
    assert picture.getpixel((drawn[0] * 5 // 8, max(0, int(drawn[1] * 3 / 4) - 1))) == ORANGE


def test_boxes_grow_with_the_image() -> None:
    image = torch.full((3, 96, 128), 128, dtype=torch.uint8)
    drawn = draw(image, detections([32, 32, 64, 64]), NAMES)
    assert drawn.getpixel((400, 499)) == ORANGE
    assert drawn.getpixel((250, 400)) == ORANGE
    assert drawn.getpixel((499, 400)) == ORANGE
    assert drawn.getpixel((400, 400)) == (128, 128, 128)


def test_names_of_any_letters_are_drawn() -> None:
    def drawn(name: str) -> np.ndarray:
        return pixels(draw(GREY, detections([400, 200, 600, 300]), [name]))

    known = [drawn(name) for name in ("Ж", "Ю", "Ä", "ł", "Ω")]
    assert all((one != other).any() for one, other in itertools.combinations(known, 2))
    for name in ("狗", "🐕", "a\nb\tc", "", "\x00", "\ud800", "كلب", "x" * 5000):
        assert drawn(name).shape == (500, 1000, 3)


def test_a_long_name_leaves_room_for_the_score() -> None:
    def drawn(score: float) -> np.ndarray:
        return pixels(draw(GREY, detections([400, 200, 600, 300], scores=[score]), ["name " * 500]))

    assert (drawn(0.25) != drawn(0.75)).any()
    assert (drawn(0.25)[:, 800:] == 128).all()


def test_a_label_without_a_name_is_a_number() -> None:
    assert count(draw(GREY, detections([400, 200, 600, 300], labels=[99]), NAMES), color(99)) > 500


# -------------------------------------------------------------------------------------------------------------- masks


def tinted(tone: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(0.65 * 128 + 0.35 * part) for part in tone)


def test_a_mask_of_a_detection_lies_in_its_box() -> None:
    left = torch.zeros(1, 28, 28)
    left[..., :14] = 0.9
    drawn = draw(GREY, detections([400, 100, 600, 300], masks=left), NAMES)
    assert drawn.getpixel((450, 200)) == tinted(ORANGE)
    assert drawn.getpixel((550, 200)) == (128, 128, 128)
    assert drawn.getpixel((499, 200)) == ORANGE  # its rim
    assert drawn.getpixel((390, 200)) == (128, 128, 128)


def test_a_mask_of_a_box_partly_outside_is_cut_not_squeezed() -> None:
    left = torch.zeros(1, 28, 28)
    left[..., :14] = 1
    drawn = draw(GREY, detections([-100, 100, 300, 300], masks=left), NAMES)
    assert drawn.getpixel((50, 200)) == tinted(ORANGE)
    assert drawn.getpixel((150, 200)) == (128, 128, 128)
    outside = draw(GREY, detections([-300, 100, -100, 300], masks=left), NAMES)
    assert outside.getpixel((50, 200)) == (128, 128, 128)


def test_masks_and_polygons_of_ground_truth_are_drawn_alike() -> None:
    mask = torch.zeros(1, 100, 200, dtype=torch.uint8)
    mask[:, 20:60, 80:100] = 1
    small = GREY[:, :100, :200]
    outline = torch.tensor([[80.0, 20], [100, 20], [100, 60], [80, 60]])
    polygons = {"polygons": outline, "offsets": torch.tensor([0, 4]), "owner": torch.tensor([0])}
    for more in ({"masks": mask}, polygons):
        drawn = draw(small, target([80, 20, 120, 60], **more), NAMES)  # five times as large
        assert drawn.getpixel((450, 200)) == tinted(ORANGE)
        assert drawn.getpixel((550, 200)) == (128, 128, 128)


def test_a_crowd_is_hatched() -> None:
    drawn = pixels(draw(GREY, target([400, 100, 600, 300], iscrowd=torch.tensor([1])), NAMES))[110:290, 410:590]
    grey = (drawn == 128).all(-1).mean()
    assert 0.5 < grey < 0.8
    assert (pixels(draw(GREY, target([400, 100, 600, 300]), NAMES))[110:290, 410:590] == 128).all()


def test_colours_are_stable_and_distinct() -> None:
    tones = [color(label) for label in range(80)]
    assert tones[:2] == [ORANGE, BLUE]
    distances = [np.linalg.norm(np.subtract(*pair)) for pair in itertools.combinations(tones, 2)]
    assert min(distances) > 30
    assert color(0) == color(128)


# -------------------------------------------------------------------------------------------------------------- sheet


class Flat:
    """Images of one colour each, 40 x 60 or 60 x 40."""

    classes = ("a", "b")

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def tone(self, index: int) -> tuple[int, int, int]:
        return 10 + index, 200, 30

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        torch.rand(1), random.random()
        size = (60, 40) if index % 2 else (40, 60)
        image: Any = torch.tensor(self.tone(index), dtype=torch.uint8)[:, None, None].expand(3, *size)
        if index == 2:
            image = Image.new("RGB", size[::-1], self.tone(index))
        return image, target(image_id=f"image {index}")


@pytest.mark.parametrize("images", [1, 2, 3, 8, 16, 40])
def test_a_sheet_shows_both_pictures_of_every_image_whole(tmp_path: Path, images: int) -> None:
    data = Flat(images)
    samples_sheet(data, {index: detections() for index in range(images)}, tmp_path / "samples.png")
    sheet = Image.open(tmp_path / "samples.png")
    assert sheet.format == "PNG"
    assert max(sheet.size) <= 2500
    times = {each: number for number, each in sheet.getcolors(1 << 24) or ()}
    shown = [times[data.tone(index)] for index in range(images)]
    side = round((shown[0] * 3 / 2 / 2) ** 0.5)
    assert side >= (200 if images <= 16 else 100)
    assert shown == [2 * side * round(side * 2 / 3)] * images
    assert [each.name for each in tmp_path.iterdir()] == ["samples.png"]


def test_a_sheet_has_what_was_annotated_on_the_left_and_what_was_found_on_the_right(tmp_path: Path) -> None:
    class Annotated(Flat):
        def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
            return torch.full((3, 480, 640), 128, dtype=torch.uint8), target([100, 100, 300, 300])

    found = detections([100, 100, 300, 300], [0, 400, 50, 450], labels=[1, 1], scores=[0.9, 0.2])
    samples_sheet(Annotated(1), {0: found}, tmp_path / "samples.png", threshold=0.5)
    sheet = pixels(Image.open(tmp_path / "samples.png"))
    middle = sheet.shape[1] // 2
    for tone, here, there in (
        (ORANGE, sheet[:, :middle], sheet[:, middle:]),
        (BLUE, sheet[:, middle:], sheet[:, :middle]),
    ):
        assert (here == tone).all(-1).sum() > 200
        assert (there == tone).all(-1).sum() == 0


def test_a_sheet_leaves_the_random_numbers_of_training_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    samples_sheet(Flat(3), {0: detections()}, tmp_path / "samples.png")
    assert torch.equal(torch.get_rng_state(), before)


class Gone(Flat):
    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        raise KeyError("the archive is gone")


class Odd(Flat):
    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        return torch.zeros(3, 4, 4, dtype=torch.uint8), target([0, 0, 1, 1], labels=torch.tensor([7]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Gone(9), "image 5: KeyError: 'the archive is gone'"),
        (Odd(9), "image 5: labels must be 0 to 1, found 7 to 7"),
    ],
)
def test_an_image_that_cannot_be_read_again_is_named(tmp_path: Path, data: Flat, message: str) -> None:
    (tmp_path / "samples.png").write_text("before")
    with pytest.raises(DataError) as caught:
        samples_sheet(data, {5: detections()}, tmp_path / "samples.png")
    assert str(caught.value) == message
    assert [each.name for each in tmp_path.iterdir()] == ["samples.png"]
    assert (tmp_path / "samples.png").read_text() == "before"


# ------------------------------------------------------------------------------------------------------------- curves


def write(folder: Path, *rows: Mapping[str, Any]) -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(step: int, kind: str = "train", **values: Any) -> dict[str, Any]:
    return {"kind": kind, "epoch": 1, "step": step, **values}


def lines(path: Path) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """By panel and name, the drawn numbers."""
    return {
        axes.get_title(loc="left"): {
            line.get_label().split("  ")[0]: (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
            for line in axes.lines
            if not line.get_label().startswith("_")
        }
        for axes in curves_figure(read_history(path)).axes
    }


def test_curves_have_a_panel_for_loss_terms_rate_and_metrics(tmp_path: Path) -> None:
    numbers = {"lr": 0.1, "loss": 3.0, "loss_cls": 1.0, "loss_box": 2.0, "grad_norm": 9.0, "step_s": 0.1}
    metrics = {"score": 0.1, "bbox_AP": 0.2, "bbox_AP50": 0.3, "bbox_APs": 0.4, "mAP": 0.5, "val_loss": 4.0}
    found = lines(write(tmp_path, row(1, **numbers), row(2, **numbers), row(2, "validation", **metrics)))
    assert {title: [*series] for title, series in found.items()} == {
        "loss": ["loss", "val_loss"],
        "terms of the loss": ["loss_cls", "loss_box"],
        "learning rate": ["lr"],
        "validation": ["score", "bbox_AP", "bbox_AP50", "mAP"],
    }
    assert found["loss"] == {"loss": ([1, 2], [3, 3]), "val_loss": ([2], [4])}
    assert found["validation"]["mAP"] == ([2], [0.5])


def test_what_a_resumed_run_makes_again_is_drawn_as_it_was_last(tmp_path: Path) -> None:
    log = write(
        tmp_path,
        row(0, "started", steps_per_epoch=4),
        *(row(step, loss=1.0) for step in (1, 2, 3, 4, 5)),
        row(4, "validation", AP=0.1),
        row(3, "started", steps_per_epoch=4),
        row(4, loss=2.0),
        row(4, "validation", AP=0.2),
    )
    assert lines(log) == {"loss": {"loss": ([1, 2, 3, 4], [1, 1, 1, 2])}, "validation": {"AP": ([4], [0.2])}}
    again = write(tmp_path, row(2, loss=1.0), row(1, loss=1.0), row(2, loss=5.0))
    assert lines(again) == {"loss": {"loss": ([1, 2], [1, 5])}}


def test_epochs_stand_above_steps_where_they_are_known(tmp_path: Path) -> None:
    def above(*rows: Mapping[str, Any]) -> list[str]:
        (axes,) = curves_figure(read_history(write(tmp_path, *rows))).axes
        return [child.get_xlabel() for child in axes.child_axes]

    assert above(row(0, "started", steps_per_epoch=10), row(5, loss=1.0)) == ["epoch"]
    assert above(row(5, loss=1.0)) == []
    figure = curves_figure(read_history(write(tmp_path, row(0, "started", steps_per_epoch=10), row(5, loss=1.0))))
    figure.draw_without_rendering()
    (second,) = figure.axes[0].child_axes
    assert np.allclose(np.array(figure.axes[0].get_xlim()) / 10, second.get_xlim())


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(0, "started", steps_per_epoch=0)],
        [row(5, loss=None, lr=None), row(6, "validation", AP=None)],
        [row(5, loss=float("nan"), lr=float("inf"))],
    ],
)
def test_a_log_without_numbers_is_an_empty_panel(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    log = write(tmp_path, *rows)
    assert lines(log) == {"no numbers yet": {}}
    curves(log, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width == 1300


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    log = write(tmp_path, row(1, loss=1.0))
    log.write_text(log.read_text() + '[3]\n\n{"step": 2}\n7\n{"kind": "train", "epoch": 1, "step": 2, "lo')
    assert lines(log) == {"loss": {"loss": ([1], [1])}}


def test_noise_is_smoothed_and_stays_faint_behind(tmp_path: Path) -> None:
    noisy = [float(step % 2) + 1 for step in range(100)]
    log = write(tmp_path, *(row(step, loss=value) for step, value in enumerate(noisy)))
    raw, smooth = curves_figure(read_history(log)).axes[0].lines
    assert list(raw.get_ydata()) == noisy
    assert raw.get_alpha() < 0.5
    assert np.ptp(smooth.get_ydata()[3:-3]) < 0.25


def test_smoothing_leaves_out_what_is_no_number() -> None:
    assert smoothed(np.array([1.0, np.nan, 3.0])) == pytest.approx([1, np.nan, 3], nan_ok=True)
    values = np.arange(50.0)
    values[10] = np.nan
    expected = [np.nanmean(values[max(0, at - 1) : at + 2]) for at in range(50)]
    assert smoothed(values) == pytest.approx(expected)


@pytest.mark.parametrize("terms", [1, 2, 33, 100])
def test_nothing_is_cut_off_however_many_terms_there_are(tmp_path: Path, terms: int) -> None:
    values = {f"decoder_layer_{number}.loss_box": 1.0 + number for number in range(terms)}
    log = write(tmp_path, *(row(step, loss=1.0, lr=0.1, **values) for step in (1, 2, 3)))
    figure = curves_figure(read_history(log))
    figure.draw_without_rendering()
    assert len(figure.axes) == (2 if terms == 1 else 3)
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= figure.get_figwidth()
    assert box.y1 <= figure.get_figheight()
    assert all(axes.get_position().width > 0.3 for axes in figure.axes)
    legends = [len(axes.get_legend().get_texts()) for axes in figure.axes]
    assert legends == ([1, 1] if terms == 1 else [1, terms, 1])


def test_a_loss_that_falls_far_has_a_logarithmic_scale(tmp_path: Path) -> None:
    def scale(*losses: float) -> str:
        log = write(tmp_path, *(row(step, loss=value) for step, value in enumerate(losses)))
        return str(curves_figure(read_history(log)).axes[0].get_yscale())

    assert scale(100.0, 10.0, 1.0) == "log"
    assert scale(3.0, 2.0, 1.0) == scale(100.0, 0.0) == scale(100.0, -1.0) == "linear"


def test_curves_replace_the_picture_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write(tmp_path, row(1, loss=1.0))
    path = tmp_path / "curves.png"
    curves(log, path)
    before = path.read_bytes()

    def broken(self: Any, file: Path, **_: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    with pytest.raises(OSError, match="No space"):
        curves(log, path)
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["curves.png", "log.jsonl"]


# ----------------------------------------------------------------------------------------------------------- callback


def ended(folder: Path, data: Any) -> Any:
    return SimpleNamespace(folder=folder, evaluation=Evaluation({}, samples={1: detections()}, dataset=data))


def test_a_run_keeps_curves_and_samples(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def evaluate(detector: Any, tick: Any) -> Evaluation:
        seen.append(sorted(each.name for each in tmp_path.glob("*.png")))
        return Evaluation({"AP": 0.5}, samples={1: detections([0, 0, 9, 9])}, dataset=TinyDataset(4))

    train(
        tiny_run(tmp_path, evaluate=evaluate, callbacks={"jsonl": JsonlLog(), "pictures": Pictures()}, report_every=2)
    )
    assert seen == [[], ["curves.png", "samples.png"]]
    assert Image.open(tmp_path / "samples.png").width > 1000
    figure = curves_figure(read_history(tmp_path / "log.jsonl"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "loss",
        "terms of the loss",
        "learning rate",
        "validation",
    ]
    assert not [*tmp_path.glob(".*")]


def test_without_validation_there_are_curves(tmp_path: Path) -> None:
    train(tiny_run(tmp_path, callbacks={"jsonl": JsonlLog(), "pictures": Pictures()}, report_every=2))
    assert [each.name for each in tmp_path.glob("*.png")] == ["curves.png"]


def test_a_picture_that_fails_is_a_line_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, row(1, loss=1.0))
    Pictures().evaluated(ended(tmp_path, Gone(3)), {})
    assert capsys.readouterr().out == (
        f"{tmp_path / 'samples.png'} was not written: image 1: KeyError: 'the archive is gone'\n"
    )
    (tmp_path / "log.jsonl").unlink()
    Pictures().run_ended(ended(tmp_path, Flat(3)))
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'curves.png'} was not written: [Errno 2]")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["curves.png"]


def test_drawing_uses_no_state_of_pyplot(tmp_path: Path) -> None:
    import sys

    curves(write(tmp_path, row(1, loss=1.0)), tmp_path / "curves.png")
    assert font(12).getname()[0] == "DejaVu Sans"
    assert "matplotlib.pyplot" not in sys.modules
