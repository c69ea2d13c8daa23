"""All of a sample moves together, rows stay in step, chance is ours, and what is wrong is a line."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli
import torch
from core.test_polygons import SIZE, disagreement, extents, outlines_of, sample
from detcore.data import Loader, Sanitize, seeded
from detcore.errors import ConfigError, DataError
from detcore.foreign import Foreign, Log
from detcore.polygons import PolygonPoints
from detcore.structures import clip_boxes
from detcore.testing import check_transform
from detcore_albumentations import library
from detcore_albumentations.mmdet import TRANSLATIONS
from detcore_albumentations.transform import Albumentations
from torch import Tensor
from torchvision import tv_tensors

FLIPS = [{"type": "HorizontalFlip", "p": 0.5}, {"type": "VerticalFlip", "p": 0.5}]
EXACT: dict[str, list[dict[str, Any]]] = {
    "flip": [{"type": "HorizontalFlip", "p": 1.0}],
    "vertical flip": [{"type": "VerticalFlip", "p": 1.0}],
    "quarter turns": [{"type": "RandomRotate90", "p": 1.0}],
    "transposed": [{"type": "Transpose", "p": 1.0}],
    "crop": [{"type": "RandomCrop", "height": 60, "width": 70}],
    "pad": [{"type": "PadIfNeeded", "min_height": 100, "min_width": 141}],
    "one of several": [{"type": "OneOf", "p": 1.0, "transforms": FLIPS}],
    "colours": [{"type": "RandomBrightnessContrast", "p": 1.0}],
}
NEAR: dict[str, list[dict[str, Any]]] = {
    "resize": [{"type": "Resize", "height": 70, "width": 101}],
    "longest side": [{"type": "LongestMaxSize", "max_size": 200}],
    "affine": [{"type": "Affine", "scale": [0.8, 1.4], "rotate": [-20, 20], "shear": [-8, 8], "p": 1.0}],
    "perspective": [{"type": "Perspective", "p": 1.0}],
    "shift, scale, rotate": [{"type": "ShiftScaleRotate", "p": 1.0}],
}


def counted(seed: int) -> Any:
    """A sample with all rows that there can be, which hold the object's number."""
    image, target = sample(seed, objects=6)
    numbers = torch.arange(6)
    regions = tv_tensors.BoundingBoxes(target["boxes"] + 0.0, format="XYXY", canvas_size=SIZE)
    others = {"area": numbers.float(), "iscrowd": numbers % 2, "proposals": regions, "proposal_scores": numbers / 10}
    return image, {**target, **others, "caption": "kept"}


@pytest.mark.filterwarnings("ignore:ShiftScaleRotate is a special case")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", EXACT | NEAR)
def test_boxes_masks_and_outlines_move_together(name: str, seed: int) -> None:
    with seeded(seed):
        image, target = Albumentations(transforms=(EXACT | NEAR)[name])(*sample(seed))
    size = tuple(image.shape[-2:])
    assert (image.dtype, image.shape[0], type(image)) == (torch.uint8, 3, tv_tensors.Image)
    assert isinstance(target["polygons"], PolygonPoints)
    assert target["polygons"].canvas_size == target["boxes"].canvas_size == tuple(target["masks"].shape[-2:]) == size
    reach, most = (0, 2) if name in EXACT else (3, 12)
    assert max(disagreement(target, row, reach) for row in range(len(target["boxes"]))) <= most
    for row, box in enumerate(target["boxes"].as_subclass(Tensor)):
        around = clip_boxes(extents(torch.cat(outlines_of(target, row))), torch.tensor(size))
        if name in EXACT or name in ("resize", "longest side"):
            torch.testing.assert_close(box, around, atol=1e-3 if name in EXACT else 0.5, rtol=0)
        else:  # boxes of turned boxes hold what they held, and more
            assert (around[:2] >= box[:2] - 1).all()
            assert (around[2:] <= box[2:] + 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_rows_stay_in_step_and_what_goes_is_counted(seed: int) -> None:
    with seeded(seed):
        transform = Albumentations(transforms=[{"type": "RandomCrop", "height": 16, "width": 20}, *FLIPS])
        _, target = transform(*counted(seed))
    labels = target["labels"].tolist()
    assert len(labels) < 6
    assert (target["dropped"], target["caption"]) == (6 - len(labels), "kept")
    assert target["area"].tolist() == labels
    assert target["iscrowd"].tolist() == [label % 2 for label in labels]
    assert target["owner"].unique().tolist() == [*range(len(labels))]
    assert torch.bincount(target["owner"]).tolist() == [1 + label % 2 for label in labels]
    assert target["proposal_scores"].tolist() == pytest.approx([label / 10 for label in labels])
    torch.testing.assert_close(target["proposals"].as_subclass(Tensor), target["boxes"].as_subclass(Tensor))
    boxes = target["boxes"].as_subclass(Tensor)
    assert torch.equal(boxes, clip_boxes(boxes, torch.tensor([16, 20])))
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert Sanitize()(torch.zeros(3, 16, 20), target)[1] is target  # there is nothing left to drop


def boxed(*boxes: Sequence[float], size: tuple[int, int] = (40, 60)) -> Any:
    rows = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    target = {
        "boxes": tv_tensors.BoundingBoxes(rows, format="XYXY", canvas_size=size),
        "labels": torch.arange(len(rows)),
        "image_id": 1,
    }
    return tv_tensors.Image(torch.randint(0, 255, (3, *size), dtype=torch.uint8)), target


def test_a_flip_by_hand() -> None:
    image, target = boxed([2, 3, 12, 20], [50.5, 0, 60, 40])
    there, moved = Albumentations(transforms=EXACT["flip"])(image, target)
    assert torch.equal(there, image.flip(2))
    torch.testing.assert_close(moved["boxes"].as_subclass(Tensor), torch.tensor([[48.0, 3, 58, 20], [0, 0, 9.5, 40]]))
    assert moved["labels"].tolist() == [0, 1]
    assert "dropped" not in moved


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, [0, 1]), ({"min_size": 6.0}, [0]), ({"min_area": 60.0}, [0]), ({"min_visibility": 0.6}, [0])],
)
def test_how_much_has_to_be_left_of_an_object(options: dict[str, float], kept: list[int]) -> None:
    """Of the second 5 x 10 of 10 x 10 pixels are left, of the third half a pixel."""
    crop = {"type": "Crop", "x_min": 0, "y_min": 0, "x_max": 40, "y_max": 40}
    _, target = Albumentations(transforms=[crop], **options)(*boxed([0, 0, 20, 20], [35, 0, 45, 10], [39.5, 0, 49, 9]))
    assert (target["labels"].tolist(), target["dropped"]) == (kept, 3 - len(kept))


def test_boxes_that_stand_out_are_cut_and_degenerate_ones_dropped() -> None:
    _, target = Albumentations(transforms=[])(*boxed([-5, 10, 70, 20], [10, 10, 10, 20], [90, 5, 99, 10]))
    torch.testing.assert_close(target["boxes"].as_subclass(Tensor), torch.tensor([[0.0, 10, 60, 20]]))
    assert target["dropped"] == 2


def test_no_objects_and_no_boxes() -> None:
    image, target = boxed()
    target |= {"masks": tv_tensors.Mask(torch.zeros(0, 40, 60, dtype=torch.uint8))}
    target |= {"polygons": PolygonPoints(torch.zeros(0, 2), canvas_size=(40, 60))}
    target |= {"offsets": torch.zeros(1, dtype=torch.int64), "owner": torch.zeros(0, dtype=torch.int64)}
    image, moved = Albumentations(transforms=EXACT["transposed"])(image, target)
    assert (moved["boxes"].shape, moved["masks"].shape, moved["polygons"].shape) == ((0, 4), (0, 60, 40), (0, 2))
    assert image.shape == (3, 60, 40)
    image, moved = Albumentations(transforms=EXACT["transposed"])(boxed()[0], {"image_id": 3})
    assert (image.shape, moved) == ((3, 60, 40), {"image_id": 3})


# ----------------------------------------------------------------------------------------------------------- chance


class Blobs:
    classes = tuple("abcdef")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        image, target = counted(index)
        return tv_tensors.Image(torch.randint(0, 255, image.shape, dtype=torch.uint8)), {**target, "image_id": index}


RANDOM = [*FLIPS, {"type": "RandomCrop", "height": 60, "width": 80}, {"type": "GaussNoise", "p": 0.5}]


def test_batches_do_not_depend_on_workers_and_epochs_differ() -> None:
    def batches(workers: int, epoch: int = 0) -> list[Any]:
        transforms = [Albumentations(transforms=RANDOM, p=0.9), Sanitize()]
        return [*Loader(Blobs(), transforms, batch_size=2, workers=workers, seed=4).epoch(epoch)]

    here, there, later = batches(0), batches(2), batches(0, epoch=1)
    for one, other in zip(here, there, strict=True):
        assert all(map(torch.equal, one.images, other.images))
        assert torch.equal(one.targets.boxes, other.targets.boxes)
        assert one.dropped == other.dropped
    assert any(
        not torch.equal(*pair)
        for one, other in zip(here, later, strict=True)
        for pair in zip(one.images, other.images, strict=True)
    )


def test_chance_is_that_of_torch_alone() -> None:
    transform, given = Albumentations(transforms=RANDOM), counted(0)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(transform(*given)[0])
    assert torch.equal(*found)
    assert not torch.equal(transform(*given)[0], found[0])


def test_probability_of_all() -> None:
    never = Albumentations(transforms=EXACT["transposed"], p=0.0)
    assert never(*counted(0))[0].shape[-2:] == SIZE


@pytest.mark.parametrize("name", ["flip", "crop", "one of several", "colours", "resize"])
def test_it_conforms(name: str) -> None:
    check_transform(Albumentations(transforms=(EXACT | NEAR)[name]), pixels=name != "colours", workers=name == "flip")


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            [{"type": "HorizontalFlop"}],
            'transforms.0: albumentations 2.0.8 has no transform HorizontalFlop of pictures. Did you mean "HorizontalFlip"?',
        ),
        ([{"type": "DualTransform"}], "transforms.0: albumentations 2.0.8 has no transform DualTransform of pictures"),
        ([{"p": 0.5}], "transforms.0: {'p': 0.5} has no type. Write {type = \"HorizontalFlip\", p = 0.5}."),
        (
            [{"type": "HorizontalFlip", "q": 0.5}],
            "transforms.0.q: not a parameter of HorizontalFlip. It takes: p.",
        ),
        (
            [{"type": "OneOf", "transforms": [{"type": "HorizontalFlip"}, {"type": "Rotate", "limits": 3}]}],
            'transforms.0.transforms.1.limits: not a parameter of Rotate. Did you mean "limit"? It takes: limit, ',
        ),
        (
            [{"type": "HorizontalFlip", "p": 2}],
            "transforms.0: HorizontalFlip: p: Input should be less than or equal to 1",
        ),
        ([{"type": "RandomCrop"}], "transforms.0: RandomCrop: height: Field required; width: Field required"),
        ([{"type": "OneOf", "transforms": [{"p": 1}]}], "transforms.0.transforms.0: {'p': 1} has no type."),
        ([{"type": "OverlayElements"}], "transforms.0: OverlayElements moves pixels, but no boxes."),
    ],
)
def test_what_the_library_does_not_take_is_a_line(transforms: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Albumentations(transforms=transforms)
    assert str(error.value).startswith(f"Albumentations: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 1.5}, "p: 1.5. It is a share, from 0 to 1."),
        ({"min_visibility": -0.1}, "min_visibility: -0.1. It is a share, from 0 to 1."),
        ({"min_size": 0.0}, "min_size: 0.0. It is a number of pixels."),
        ({"min_area": -1.0}, "min_area: -1.0. It is a number of pixels."),
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Albumentations(transforms=[], **options)
    assert str(error.value) == f"Albumentations: {message}"


@pytest.mark.parametrize("step", [{"type": "Normalize"}, {"type": "ToFloat"}, {"type": "ToTensorV2"}])
def test_what_is_no_picture_any_more_is_an_error(step: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"gives .*float32|gives torch.uint8") as error:
        Albumentations(transforms=[step])(*boxed([1, 2, 30, 30]))
    assert str(error.value).endswith("Leave out what normalises or makes tensors: [preprocess] does.")


def test_outlines_that_lose_points_are_an_error_and_masks_are_none() -> None:
    transform = Albumentations(transforms=[{"type": "GridDistortion", "distort_limit": 0.9, "p": 1.0}])
    image, target = sample(0)
    far = target["polygons"].as_subclass(Tensor) * 3
    with pytest.raises(DataError) as error:
        transform(image, {**target, "polygons": PolygonPoints(far, canvas_size=SIZE)})
    fix = 'Set segmentation = "masks" of the dataset.'
    assert str(error.value) == f"Albumentations: a transform of the list loses points of outlines. {fix}"
    for name in ("polygons", "offsets", "owner"):
        del target[name]
    assert transform(image, target)[1]["masks"].shape[0] == len(transform(image, target)[1]["boxes"]) > 0


def test_what_a_transform_raises_names_the_image() -> None:
    transform = Albumentations(transforms=[{"type": "RandomCrop", "height": 500, "width": 500}])
    with pytest.raises(DataError, match=r"image \d \(id \d\): Albumentations raised \w+: "):
        next(Loader(Blobs(), [transform]).epoch(0))


# ------------------------------------------------------------------------------------------------------ the library


ASK = """
import os, urllib.request
def refuse(*_, **__): raise SystemExit("asked the network")
urllib.request.OpenerDirector.open = refuse
from detcore_albumentations.transform import Albumentations
Albumentations(transforms=[])
print(os.environ.get("NO_ALBUMENTATIONS_UPDATE"))
"""


def test_the_network_is_not_asked_and_the_environment_stays() -> None:
    environment = {key: value for key, value in os.environ.items() if key != library.OFFLINE}
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "None"), done.stderr


def test_what_the_environment_says_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.OFFLINE, "0")
    monkeypatch.setattr(library.importlib, "import_module", lambda name: (name, os.environ[library.OFFLINE]))
    assert library.library.__wrapped__() == ("albumentations", "1")
    assert os.environ[library.OFFLINE] == "0"


def test_opencv_has_its_threads_back() -> None:
    cv2: Any = importlib.import_module("cv2")
    before = cv2.getNumThreads()
    seen = []

    class Watched(Albumentations):
        def _seed(self) -> None:
            super()._seed()
            apply = self.compose.transforms[0].apply
            self.compose.transforms[0].apply = lambda *args, **options: (
                seen.append(cv2.getNumThreads()),
                apply(*args, **options),
            )[1]
            self.compose.transforms[0]._set_keys()

    Watched(transforms=EXACT["flip"])(*boxed([1, 2, 30, 30]))
    assert (seen, cv2.getNumThreads()) == ([1], before)


def built(tmp_path: Path, step: str) -> Any:
    from detcore.assemble import load
    from detcore.build import plan
    from detcore.recipe import Recipe

    steps = f'[{{ type = "Albumentations", transforms = [{{ type = "OneOf", transforms = [{step}] }}] }}]'
    path = tmp_path / "my.toml"
    path.write_text(f"[train]\nepochs = 1\nbatch_size = 1\ndataset = {{ type = 'Nothing' }}\ntransforms = {steps}\n")
    (tmp_path / "nothing.py").write_text(NOTHING)
    config, catalog = load(str(path), sets=[f"plugins.local=['{tmp_path.as_posix()}/nothing.py']"])
    return plan(config, catalog, Recipe).build("train.transforms")


NOTHING = """
from detcore import Component, hookimpl
class Nothing:
    classes = ["a"]
    def __len__(self): return 0
    def __getitem__(self, index): raise IndexError
@hookimpl
def detcore_components():
    return [Component("dataset", "Nothing", __name__ + ":Nothing")]
"""


def test_what_the_readme_shows_is_made() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (table, _) = tomli.loads(shown)["train"]["transforms"]
    transform = Albumentations(transforms=table["transforms"])
    assert [type(each).__name__ for each in transform.compose.transforms] == ["HorizontalFlip", "Affine", "OneOf"]
    with seeded(0):
        assert len(transform(*counted(0))[1]["boxes"])


def test_a_config_names_it_and_its_mistakes_have_an_address(tmp_path: Path) -> None:
    (transform,) = built(tmp_path, '{ type = "HorizontalFlip", p = 0.2 }')
    assert transform.compose.transforms[0].transforms[0].p == 0.2
    with pytest.raises(ConfigError) as error:
        built(tmp_path, '{ type = "HorizontalFlip", r = 1 }')
    address, _, rest = str(error.value).partition(": train.transforms.0: ")
    assert address.endswith("my.toml")
    found = "transforms.0.transforms.0.r: not a parameter of HorizontalFlip. "
    assert rest.startswith("transform Albumentations (detcore-albumentations ")
    assert found in rest


# -------------------------------------------------------------------------------------------------------- MMDetection


def translated(table: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    log = Log(TRANSLATIONS)
    foreign = Foreign(table, "train_pipeline.3", log)
    part = foreign.translated()
    return part.plain, [str(each) for each in [*log.lost, *foreign.unread()]], [str(each) for each in log.notes]


def test_mmdetections_albu_becomes_this_transform() -> None:
    steps = [
        {"type": "ShiftScaleRotate", "shift_limit": 0.0625, "scale_limit": 0.0, "rotate_limit": 0, "p": 0.5},
        {"type": "JpegCompression", "quality_lower": 85, "quality_upper": 95, "p": 0.2},
        {"type": "OneOf", "p": 0.1, "transforms": [{"type": "Blur", "blur_limit": 3, "always_apply": True}]},
    ]
    boxes = {"type": "BboxParams", "format": "pascal_voc", "label_fields": ["gt_bboxes_labels"], "min_visibility": 0.1}
    ours, lost, notes = translated(
        {
            "type": "Albu",
            "transforms": steps,
            "bbox_params": {**boxes, "filter_lost_elements": True},
            "keymap": {"img": "image", "gt_bboxes": "bboxes"},
            "skip_img_without_anno": True,
        }
    )
    assert (ours["type"], ours["min_visibility"]) == ("Albumentations", 0.1)
    assert ours["transforms"][0] == steps[0]
    assert ours["transforms"][1] == {"type": "ImageCompression", "quality_range": [85, 95], "p": 0.2}
    assert ours["transforms"][2]["transforms"] == [{"type": "Blur", "blur_limit": 3, "p": 1.0}]
    assert lost == ["train_pipeline.3.skip_img_without_anno = True: only False has a counterpart"]
    assert notes == []
    ours, lost, notes = translated(
        {"type": "Albu", "transforms": [], "bbox_params": {"min_width": 4, "min_height": 2, "format": "pascal_voc"}}
    )
    assert (ours["min_size"], lost, len(notes)) == (4, [], 1)
