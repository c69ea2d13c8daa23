"""What is drawn is what training gets; sheets, single pictures and pages; mistakes are a line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from detcore.assemble import load
from detcore.data import Loader
from detcore.errors import ConfigError, DataError
from detcore.scripts import split_of
from detcore_browse.browse import run, shown
from detcore_browse.command import browse
from PIL import Image

CONFIG = """
seed = 3
[train]
epochs = 1
batch_size = 4
transforms = [{ type = "RandomHorizontalFlip" }, { type = "RandomCrop", size = [60, 80] }, { type = "Sanitize" }]
[train.dataset]
type = "ShapesDataset"
length = 7
size = [70, 90]
[val]
evaluator = { type = "CocoEvaluator" }
[val.dataset]
type = "ShapesDataset"
split = "val"
length = 3
size = [70, 90]
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "my.toml").write_text(CONFIG)
    return str(tmp_path / "my.toml")


@pytest.mark.parametrize("outlines", ["", "polygons = true", "masks = true"])
def test_samples_are_those_of_a_run_whatever_its_batches(tmp_path: Path, outlines: str) -> None:
    """A run fetches four at once, here there is one."""
    (tmp_path / "my.toml").write_text(CONFIG.replace("length = 7", f"length = 7\n{outlines}"))
    settings: Any = split_of(*load(str(tmp_path / "my.toml")), "train")
    training = Loader(settings.dataset, settings.transforms, batch_size=4, shuffle=True, seed=3)
    batches = [*training.epoch(2)]
    seen = [*shown(Loader(settings.dataset, settings.transforms, shuffle=True, seed=3), 2)]
    assert [each.position for each in seen] == [*range(7)]
    assert [each.name for each in seen] == [str(name) for batch in batches for name in batch.ids]
    for position, each in enumerate(seen):
        batch, row = batches[position // 4], position % 4
        assert batch.targets is not None
        valid = batch.targets.valid[row]
        assert torch.equal(each.image, batch.images[row])
        assert torch.equal(each.target["boxes"], batch.targets.boxes[row][valid])
        assert torch.equal(each.target["labels"], batch.targets.labels[row][valid])
        assert ("polygons" in each.target, "masks" in each.target) == ("poly" in outlines, "mask" in outlines)
        if "masks" in each.target:
            assert len(each.target["masks"]) == len(each.target["boxes"])
    assert sum(each.dropped for each in seen) == sum(batch.dropped for batch in batches)


def test_a_sheet_holds_every_sample(config: str, tmp_path: Path) -> None:
    line = run(config, count=5, output=tmp_path / "new" / "sheet.png")
    assert re.fullmatch(rf"5 of 7 samples, \d+ objects, \d+ dropped by transforms; in {tmp_path}/new/sheet.png", line)
    sheet = Image.open(tmp_path / "new" / "sheet.png")
    assert sheet.width == 3 * 800 + 12  # three columns
    white = (
        torch.frombuffer(bytearray(sheet.convert("L").tobytes()), dtype=torch.uint8).view(sheet.height, sheet.width)
        == 255
    )
    middle = sheet.height // 4
    assert not white[middle, 100:700].all()
    assert not white[3 * middle, 900:1500].all()
    assert white[3 * middle, 1650:].all()  # there is no sixth


def test_single_pictures_and_a_page_that_shows_them(config: str, tmp_path: Path) -> None:
    folder = tmp_path / "<page>"
    line = run(config, count=9, start=4, html=True, output=folder, sets=["train.transforms=[]"])
    assert line.startswith("3 of 7 samples")
    assert line.endswith(f"in {folder}/index.html")
    files = ["00004.png", "00005.png", "00006.png"]
    assert sorted(path.name for path in folder.glob("*.png")) == files
    assert Image.open(folder / files[0]).size == (1000, round(70 * 1000 / 90))  # small images are enlarged
    text = (folder / "index.html").read_text()
    assert re.findall(r'src="([^"]+)"', text) == files
    assert "<title>my.toml: train, epoch 0</title>" in text
    assert len(re.findall(r"<figcaption>\d: image \d, 90 x 70, objects: \d+</figcaption>", text)) == 3


def test_names_of_images_are_escaped_on_a_page(tmp_path: Path) -> None:
    from detcore_browse.browse import Shown, page

    sample = Shown(0, "<b>&", torch.zeros(3, 4, 4), {"boxes": torch.zeros(0, 4)}, 2)
    text = page([(sample, "0.png")], tmp_path, "a < b").read_text()
    assert "image &lt;b&gt;&amp;, 4 x 4, objects: 0, dropped: 2<" in text
    assert "<h1>a &lt; b</h1>" in text


def test_validation_is_in_the_order_of_the_dataset_and_epochs_differ(config: str, tmp_path: Path) -> None:
    def order(epoch: int, split: str) -> list[str]:
        run(config, split=split, epoch=epoch, count=7, html=True, output=tmp_path / "page")
        return re.findall(r"image (\d+)", (tmp_path / "page" / "index.html").read_text())

    assert order(0, "val") == ["0", "1", "2"]
    assert sorted(order(0, "train")) == sorted(order(1, "train")) == [str(number) for number in range(7)]
    assert order(0, "train") != order(1, "train")


SWITCHES = """
[callbacks.late]
type = "PipelineSwitch"
epoch = 3
transforms = [{ type = "CenterCrop", size = [40, 50] }]
[callbacks.later]
type = "detcore/PipelineSwitch"
epoch = -2
transforms = [{ type = "CenterCrop", size = [30, 20] }]
"""


@pytest.mark.parametrize("length", [["train.epochs=6"], ["train={epochs={_delete_=true}, steps=5, accumulate=2}"]])
def test_an_epoch_is_drawn_behind_the_transforms_that_it_has(config: str, tmp_path: Path, length: list[str]) -> None:
    """Of six epochs; five steps of two batches of four of seven samples are five epochs."""
    Path(config).write_text(CONFIG + SWITCHES)
    last = 6 if "epochs=6" in length[0] else 5

    def size(epoch: int, split: str = "train") -> tuple[str, str]:
        line = run(config, epoch=epoch, split=split, count=2, html=True, output=tmp_path / "page", sets=length)
        (drawn,) = {*re.findall(r"(\d+ x \d+), objects", (tmp_path / "page" / "index.html").read_text())}
        return drawn, line.partition("by transforms")[2].partition(";")[0]

    assert size(0) == ("80 x 60", "")
    assert size(2) == ("80 x 60", "")
    assert size(last - 2) == size(last - 1) == ("20 x 30", ", transforms of callbacks.later")
    if last == 6:
        assert size(3) == ("50 x 40", ", transforms of callbacks.late")
    assert size(4, "val") == ("90 x 70", "")


def test_what_is_drawn_is_what_the_run_reads_after_its_switch(config: str, tmp_path: Path) -> None:
    """The callback itself, on a loader."""
    from types import SimpleNamespace

    from detcore.callbacks.switch import PipelineSwitch
    from torchvision.transforms.v2 import CenterCrop

    Path(config).write_text(CONFIG + SWITCHES)
    settings: Any = split_of(*load(config, ["train.epochs=6"]), "train")
    training: Any = SimpleNamespace(
        epoch=3,
        loader=Loader(settings.dataset, settings.transforms, batch_size=4, shuffle=True, seed=3),
        progress=SimpleNamespace(steps=12, steps_per_epoch=2),
    )
    PipelineSwitch(epoch=3, transforms=[CenterCrop((40, 50))]).epoch_started(training)
    images = [image for batch in training.loader.epoch(3) for image in batch.images]
    run(config, epoch=3, count=7, single=True, output=tmp_path / "out", sets=["train.epochs=6"])
    from detcore_browse.browse import switched

    name = switched(*load(config, ["train.epochs=6"]), 3)
    assert name == "late"
    drawn: Any = split_of(*load(config, ["train.transforms='${callbacks.\"late\".transforms}'"]), "train")
    seen = [*shown(Loader(drawn.dataset, drawn.transforms, shuffle=True, seed=3), 3)]
    assert all(torch.equal(one.image, other) for one, other in zip(seen, images, strict=True))


def test_samples_come_in_the_order_of_the_run(config: str, tmp_path: Path) -> None:
    (tmp_path / "backwards.py").write_text(BACKWARDS)
    Path(config).write_text(f"{CONFIG}\n[train.order]\ntype = 'Backwards'\n[plugins]\nlocal = ['./backwards.py']\n")
    run(config, count=7, html=True, output=tmp_path / "page")
    assert re.findall(r"image (\d+)", (tmp_path / "page" / "index.html").read_text()) == list("6543210")


BACKWARDS = """
from detcore import Component, hookimpl
from detcore.interfaces import Order
class Backwards(Order):
    def __init__(self, dataset, batch_size): self.length = len(dataset)
    def __len__(self): return self.length
    def __call__(self, seed, epoch): return range(self.length - 1, -1, -1)
@hookimpl
def detcore_components():
    return [Component("order", "Backwards", __name__ + ":Backwards")]
"""


def test_the_command_has_the_options_of_the_function(config: str, tmp_path: Path) -> None:
    options = ["--count", "2", "--single", "--split", "val", "--output", str(tmp_path / "out"), "--set", "seed=4"]
    done = CliRunner().invoke(browse, [config, *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.output.startswith("2 of 3 samples")
    assert len([*(tmp_path / "out").glob("*.png")]) == 2


def test_core_run_finds_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detcore", "browse", str(tmp_path / "none.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "none.toml" in done.stderr


def test_passing_over_more_samples_than_there_are_is_an_error(config: str) -> None:
    with pytest.raises(DataError) as caught:
        run(config, start=7)
    assert str(caught.value) == f"{config}: train.dataset: has 7 samples, --start passes over 7"


def test_a_config_without_such_data_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("seed = 1\n")
    with pytest.raises(ConfigError, match="says nothing of train"):
        run(str(tmp_path / "my.toml"))


def test_help_imports_no_torch() -> None:
    code = "import sys, detcore_browse.command; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
