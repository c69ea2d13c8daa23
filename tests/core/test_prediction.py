"""``core-run predict``: what is read, what is written, and what is said of what cannot be read."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core.runner.tiny import TinyDetector
from detcore import prediction
from detcore.errors import UserError
from detcore.prediction import find, predict_into
from detcore.predictor import Predictor
from detcore.preprocess import Preprocess
from PIL import Image


def picture(path: Path, grey: int = 100, size: tuple[int, int] = (40, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photos/b.jpg", "photos/a.png", "photos/more/a.JPG", "c.png"):
        picture(Path(name))
    Path("photos/notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(detector=TinyDetector(), preprocess=Preprocess(divisor=8), classes=("cat", "dog"), batch_size=2)


def read(name: str) -> Any:
    return json.loads(Path(name).read_text(encoding="utf-8"))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        (["photos"], ["photos/a.png", "photos/b.jpg", "photos/more/a.JPG"]),
        (["photos/*.jpg"], ["photos/b.jpg"]),
        (["photos/**/a.*"], ["photos/a.png", "photos/more/a.JPG"]),
        (["c.png", "photos/b.jpg", "c.png", "*.png"], ["c.png", "photos/b.jpg"]),
    ],
)
def test_inputs_are_files_folders_and_globs_each_file_once(inputs: list[str], found: list[str]) -> None:
    assert find(inputs) == [Path(each) for each in found]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(here: Path) -> None:
    picture(here / "[1].png")
    assert find(["[1].png"]) == [Path("[1].png")]


def test_every_input_that_means_nothing_is_said(here: Path) -> None:
    (here / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        find(["gone.jpg", "c.png", "empty", "*.gif"])
    assert str(caught.value).splitlines() == [
        "gone.jpg: there is no such file or folder",
        "empty: no image or video is in it",
        "*.gif: there is no such file or folder",
    ]


@pytest.mark.usefixtures("here")
def test_rows_name_images_and_the_images_name_files(predictor: Predictor) -> None:
    picture(Path("wide.png"), size=(60, 20))
    assert predict_into(Path("out"), predictor, find(["photos", "wide.png"])) == []
    rows, table = read("out/predictions.json"), read("out/images.json")
    assert [row["image_id"] for row in rows] == [1, 2, 3, 4]
    expected = predictor.predict("wide.png")[0]
    assert rows[3] == expected.to_coco(4)[0]
    assert table["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert table["images"][3] == {"id": 4, "file_name": "wide.png", "width": 60, "height": 20, "picture": "wide.jpg"}
    assert [image["file_name"] for image in table["images"][:3]] == [
        "photos/a.png",
        "photos/b.jpg",
        "photos/more/a.JPG",
    ]


@pytest.mark.usefixtures("here")
def test_two_files_of_one_name_have_a_picture_each(predictor: Predictor) -> None:
    picture(Path("dark/a.png"), grey=0)
    predict_into(Path("out"), predictor, find(["photos", "dark"]))
    names = [image["picture"] for image in read("out/images.json")["images"]]
    assert names == ["a.jpg", "b.jpg", "a-2.jpg", "a-3.jpg"]
    assert {path.name for path in Path("out/pictures").iterdir()} == {*names}
    brightness = [np.asarray(Image.open(Path("out/pictures", name))).mean() for name in names]
    assert brightness[3] < brightness[0] == brightness[2]


@pytest.mark.usefixtures("here")
def test_without_pictures_none_is_drawn(predictor: Predictor) -> None:
    predict_into(Path("out"), predictor, find(["c.png"]), pictures=False)
    assert {path.name for path in Path("out").iterdir()} == {"predictions.json", "images.json"}
    assert "picture" not in read("out/images.json")["images"][0]


@pytest.mark.usefixtures("here")
def test_what_scores_less_is_left_out(predictor: Predictor) -> None:
    predict_into(Path("out"), predictor, find(["c.png"]), score=1.0)
    assert read("out/predictions.json") == []
    assert len(read("out/images.json")["images"]) == 1


@pytest.mark.usefixtures("here")
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_done(predictor: Predictor) -> None:
    Path("photos/b.jpg").write_bytes(Path("photos/b.jpg").read_bytes()[:200])
    (error,) = predict_into(Path("out"), predictor, find(["photos"]))
    assert str(error).startswith("photos/b.jpg: not a sound image: ")
    assert [image["file_name"] for image in read("out/images.json")["images"]] == ["photos/a.png", "photos/more/a.JPG"]


@pytest.mark.usefixtures("here")
def test_a_picture_never_replaces_an_image_that_is_read(predictor: Predictor) -> None:
    mine = picture(Path("out/pictures/mine.jpg"))
    before = mine.read_bytes()
    with pytest.raises(
        UserError, match=r"mine\.jpg: would be replaced by a picture of itself\. Choose another --output"
    ):
        predict_into(Path("out"), predictor, find(["out"]))
    assert mine.read_bytes() == before


# ----------------------------------------------------------------------------------------------------------- videos


def video(path: str, frames: int = 5, rate: Fraction = Fraction(10)) -> None:
    av = pytest.importorskip("av", reason="the optional package av is not installed")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            grey = np.full((48, 64, 3), 50 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.usefixtures("here")
def test_a_video_is_read_frame_by_frame_and_drawn_as_a_video(predictor: Predictor) -> None:
    video("clip.mp4")
    predict_into(Path("out"), predictor, find(["clip.mp4", "c.png"]))
    images = read("out/images.json")["images"]
    assert [image.get("frame") for image in images] == [0, 1, 2, 3, 4, None]
    assert {image["file_name"] for image in images[:5]} == {"clip.mp4"}
    assert {image["picture"] for image in images[:5]} == {"clip.mp4"}
    assert [row["image_id"] for row in read("out/predictions.json")] == [1, 2, 3, 4, 5, 6]
    import av

    with av.open("out/pictures/clip.mp4") as container:
        drawn = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    assert len(drawn) == 5
    middle = [int(frame[frame.shape[0] * 3 // 4, frame.shape[1] * 3 // 4].mean()) for frame in drawn]
    assert middle == sorted(middle)  # the frames are in order
    assert middle[4] - middle[0] > 150


@pytest.mark.usefixtures("here")
def test_without_av_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("clip.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError) as caught:
        find(["c.png", "clip.mp4"])
    line = 'clip.mp4: videos need the package av, which is not installed. Install PyAV: pip install "detcore[video]".'
    assert str(caught.value) == line


@pytest.mark.usefixtures("here")
def test_a_video_that_cannot_be_read_is_named(predictor: Predictor) -> None:
    pytest.importorskip("av", reason="the optional package av is not installed")
    Path("broken.mp4").write_bytes(b"no video")
    (error,) = predict_into(Path("out"), predictor, find(["broken.mp4", "c.png"]))
    assert str(error).startswith("broken.mp4: cannot be read: ")
    assert len(read("out/images.json")["images"]) == 1


# ------------------------------------------------------------------------------------------------- the whole command


@pytest.mark.usefixtures("here")
def test_predict_says_how_many_files_were_read(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(prediction, "load_detector", lambda *args, **more: asked.append((args, more)) or predictor)
    Path("bad.png").write_text("no")
    (error,) = prediction.predict("best.pt", ["photos", "bad.png"], output="found", draw=False, device="cpu")
    assert str(error) == "bad.png: not an image, or of an unknown format. Replace the file."
    assert capsys.readouterr().out == "3 of 4 files; in found\n"
    assert asked == [(("best.pt", None), {"device": "cpu", "sets": (), "swaps": ()})]


def test_inputs_are_looked_for_before_the_model_is_built() -> None:
    with pytest.raises(UserError, match=r"gone\.png: there is no such file"):
        prediction.predict("gone.pt", ["gone.png"])
