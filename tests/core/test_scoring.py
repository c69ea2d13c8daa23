"""``core-run eval`` of results in a file, of data without objects, and the pictures and files it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detcore import detectors, run
from detcore.errors import UserError
from installed_toys import CHECKPOINT, enter, train_toys
from PIL import Image

NO_OBJECT = ["val.dataset.empty=[0, 1, 2, 3, 4, 5]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_toys(tmp_path_factory.mktemp("trained"))


@pytest.fixture(autouse=True)
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(trained, monkeypatch)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_results_that_were_written_score_what_the_model_scored_and_no_model_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "r.json")
    metrics = run.evaluate("toy.toml", CHECKPOINT, output=file)
    assert metrics.keys() == {"accuracy"}
    assert [row["image_id"] for row in read(Path(file))] == [0, 1, 2, 3, 4, 5]
    monkeypatch.setattr(detectors.OneStage, "__init__", lambda self, **parts: pytest.fail("a model was built"))
    assert run.evaluate("toy.toml", predictions=file) == metrics


def test_results_of_another_detector_score_differently(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    right = [{"image_id": n, "category_id": n % 2 + 1, "bbox": [0, 0, 9, 9], "score": 0.5} for n in range(6)]
    file.write_text(json.dumps(right))
    assert run.evaluate("toy.toml", predictions=str(file)) == {"accuracy": 1.0}
    file.write_text(json.dumps(right[:3]))
    assert run.evaluate("toy.toml", predictions=str(file)) == {"accuracy": 0.5}
    again = tmp_path / "again.json"
    run.evaluate("toy.toml", predictions=str(file), output=str(again))
    assert read(again) == right[:3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "r.json: cannot be read: No such file or directory"),
        ("[1, 2", "r.json: not JSON: Expecting ',' delimiter: line 1 column 6 (char 5)"),
        ("{}", "r.json: holds a dict. COCO's results are a list of rows, as core-run eval --output writes them."),
        ("[3]", "r.json: [0]: not a row of COCO's results. A row has image_id, category_id, bbox, score."),
        ('[{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]',
         "r.json: [0]: the validation data has no image 9. Are they results on other data?"),
        ('[{"image_id": 0, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}]',
         "r.json: [0]: the validation data has no category 3. It has 1, 2."),
    ],
)  # fmt: skip
def test_a_file_that_is_no_results_of_this_data_is_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as caught:
        run.evaluate("toy.toml", predictions=str(file))
    assert str(caught.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize("given", [{}, {"checkpoint": CHECKPOINT, "predictions": "r.json"}])
def test_either_a_checkpoint_or_results_are_scored(given: dict[str, str]) -> None:
    with pytest.raises(UserError, match="eval: wants a checkpoint, or results to score with --predictions: one of"):
        run.evaluate("toy.toml", **given)


def test_every_image_is_drawn_as_annotated_beside_what_was_found(tmp_path: Path) -> None:
    run.evaluate("toy.toml", CHECKPOINT, draw=str(tmp_path / "all"), score=0.0)
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert names == [f"{number}-{number}.png" for number in range(6)]
    run.evaluate("toy.toml", CHECKPOINT, draw=str(tmp_path / "none"), score=1.0)
    some, none = (np.asarray(Image.open(tmp_path / folder / "0-0.png")) for folder in ("all", "none"))
    half = some.shape[1] // 2
    assert (some[80:, :half] == none[80:, :half]).all()  # the annotations; above them is the title
    assert (some[80:, half:] != none[80:, half:]).any()


def test_results_in_a_file_are_drawn_too(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[]")
    run.evaluate("toy.toml", predictions=str(tmp_path / "r.json"), draw=str(tmp_path / "drawn"))
    assert len([*(tmp_path / "drawn").iterdir()]) == 6


def test_data_without_objects_is_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "r.json")
    assert run.evaluate("toy.toml", CHECKPOINT, output=file, sets=NO_OBJECT) == {}
    assert "no image has an object: the results are written, not scored\n" in capsys.readouterr().out
    assert len(read(Path(file))) == 6
    with pytest.raises(UserError) as caught:
        run.evaluate("toy.toml", CHECKPOINT, sets=NO_OBJECT)
    line = "val.dataset: no image has an object: there is nothing to score. Write the results with --output FILE."
    assert str(caught.value) == line
    with pytest.raises(UserError, match=r"val\.dataset: no image has an object: there is nothing to score"):
        run.evaluate("toy.toml", predictions=file, sets=NO_OBJECT)
