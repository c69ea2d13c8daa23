"""The commands of ``docs/mmdet.md``: from a config of the zoo and a checkpoint to objects in an image, and back."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import attrs
import mmdet_files
import pytest
import torch
from detcore import assemble
from detcore.build import plan
from detcore.cli import main
from detcore.config.dump import spell
from detcore.images import read_image
from detcore.interfaces import Detector
from detcore.recipe import Recipe
from detcore.structures import Batch, Detections
from detcore_mmdet import Translated, from_mmdet, read_checkpoint, to_mmdet, translate
from detcore_mmdet.importing import read
from detcore_mmdet.reading.files import CONFIGS, PACKAGE, installed
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2.functional import resize

pytestmark = pytest.mark.zoo
ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "mmdet.md").read_text(encoding="utf-8")
IMAGES = Path(os.environ.get("DETCORE_TEST_DATA", ROOT.parent / "shared" / "data")) / "coco128" / "images" / "val2017"
NAME = "retinanet_r50_fpn_1x_coco"
CLASSES = [f"class {number}" for number in range(80)]


@attrs.frozen
class Block:
    language: str
    title: str
    text: str


def blocks(section: str) -> list[Block]:
    """The blocks of code below a heading of the page."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found = re.findall(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader of the page has: MMDetection's configs, a checkpoint, an image."""
    given = os.environ.get("DETCORE_TEST_ZOO")
    zoo = [Path(given)] if given else list(installed(PACKAGE, CONFIGS))
    if not zoo or not IMAGES.is_dir():
        pytest.skip("no configs of MMDetection, or no coco128")
    for each in ("retinanet", "_base_"):
        shutil.copytree(zoo[0] / each, tmp_path / "configs" / each)
    shutil.copy(min(IMAGES.glob("*.jpg")), tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def built(found: Translated, path: Path) -> Detector:
    """The detector that a translated table makes, without what the command does around it."""
    path.write_text(f"classes = {spell(CLASSES)}\nmodel = {spell(found.model, loadable=True)}\n", encoding="utf-8")
    config, catalog = assemble.load(str(path))
    detector: Detector = plan(config, catalog, Recipe).build("model", assemble.class_flow(config, CLASSES))
    return detector


def made(state: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Weights, of a network that nobody trained, with which scores are between 0.3 and 0.9."""
    torch.manual_seed(0)
    drawn = {name: value.clone() for name, value in state.items()}
    for name in names:
        drawn[name].normal_(0, 0.3)
    return drawn


def run(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a block's commands; what they say."""
    capsys.readouterr()
    for line in text.splitlines():
        first, *words = shlex.split(line)
        assert first == "core-run"
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert not ended.value.code, "".join(capsys.readouterr())
    return "".join(capsys.readouterr())


def batch_of(path: Path, model: dict[str, dict[str, list[float]]]) -> Batch:
    """An image as MMDetection's ``Resize(scale=(1333, 800), keep_ratio=True)`` and ``data_preprocessor`` make it."""
    image = read_image(path, exif=True)
    height, width = image.shape[-2:]
    factor = min(1333 / max(height, width), 800 / min(height, width))
    size = int(height * factor + 0.5), int(width * factor + 0.5)
    small = resize(image, list(size), antialias=False)
    mean, std = (torch.tensor(model["data_preprocessor"][key])[:, None, None] for key in ("mean", "std"))
    padded = [-(-side // 32) * 32 for side in size]
    pixels = pad((small.float() - mean) / std, (0, padded[1] - size[1], 0, padded[0] - size[0]))
    return Batch(
        images=pixels[None],
        sizes=torch.tensor([size], dtype=torch.float32),
        padded=torch.tensor([padded], dtype=torch.float32),
        scale=torch.tensor([[width / size[1], height / size[0]]]),
        ids=[1],
        targets=None,
    )


def test_three_commands_lead_from_files_to_the_detectors_objects(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = json.loads(json.dumps(read(folder / "configs" / "retinanet" / f"{NAME}.py")["model"]))
    found = translate({**model, "backbone": {**model["backbone"], "init_cfg": None}})  # ImageNet's are not fetched
    detector = built(found, folder / "own.toml")
    theirs = made(
        to_mmdet(detector.state_dict(), found.part), ["bbox_head.retina_cls.weight", "bbox_head.retina_cls.bias"]
    )
    file = folder / f"{NAME}.pth"
    mmdet_files.save({**mmdet_files.of_3x(theirs), "meta": {"epoch": 12}}, file)

    commands, said, mine = blocks("Three commands")
    assert len(commands.text.splitlines()) == 3
    assert run(commands.text, capsys) == said.text
    rows = json.loads((folder / "found" / "predictions.json").read_text(encoding="utf-8"))
    assert (folder / "found" / "pictures" / "street.jpg").is_file()

    detector.load_state_dict(from_mmdet(theirs, detector.state_dict(), found.part))
    batch = batch_of(folder / "street.jpg", model)
    with torch.no_grad():
        (own,) = detector.eval().detections(batch)
    same_objects(rows, own, batch)

    (folder / mine.title).write_text(mine.text, encoding="utf-8")
    assert run(f"core-run check {mine.title}", capsys) == f"{mine.title}: no problem found\n"

    back, answer = blocks("Going back")
    assert run(back.text, capsys) == answer.text
    again = read_checkpoint(folder / "back.pth").state
    assert {*again} == {*theirs}
    assert [name for name, value in theirs.items() if not torch.equal(again[name], value)] == []


def same_objects(rows: list[dict[str, Any]], own: Detections, batch: Batch) -> None:
    """What a file of COCO's results says is what a detector found, in pixels of the image and from 0.3 on."""
    sure = own.scores >= 0.3
    assert sure.sum() > 20
    assert len(rows) == sure.sum()
    boxes = own.boxes[sure] * batch.scale.repeat(1, 2)
    height, width = (batch.sizes * batch.scale.flip(-1)).round()[0].tolist()
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))
    listed = torch.tensor([[*row["bbox"], row["score"], row["category_id"]] for row in rows])
    listed[:, 2:4] += listed[:, :2]
    mine = torch.cat([boxes, own.scores[sure, None], own.labels[sure, None] + 1.0], 1)
    nearest = torch.cdist(mine, listed, p=torch.inf).argmin(1)  # those of one score have any order
    assert sorted(nearest.tolist()) == [*range(len(rows))]
    torch.testing.assert_close(listed[nearest], mine, atol=1e-4, rtol=1e-4)
