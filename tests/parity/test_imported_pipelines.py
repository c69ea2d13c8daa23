"""From files to a network's input by an imported config: shapes, scale factors and values are the reference's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detcore import assemble
from detcore.data import collate
from detcore.images import read_image
from detcore_mmdet.config import import_config
from detcore_mmdet.writing import written
from mmdet_configs import new
from parity import golden
from torchvision import tv_tensors

DATA = Path(os.environ.get("DETCORE_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "coco128"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")
@pytest.mark.parametrize("name", ["rgb", "caffe_bgr", "yolox"])
def test_inputs_of_an_imported_config_are_those_of_the_reference(name: str, tmp_path: Path) -> None:
    about = json.loads((golden.folder() / f"pipeline_{name}.json").read_text())
    reference = torch.from_numpy(np.load(golden.folder() / f"pipeline_{name}.npz")["input"]).float()
    changes = {
        "model__data_preprocessor": about["data_preprocessor"],
        "val_dataloader__dataset__pipeline": about["pipeline"],
    }
    found = import_config(new(**changes))
    assert found.lost == []
    path = tmp_path / "imported.toml"
    path.write_text(written(found.table, {}, []))
    parts = assemble.build(*assemble.load(str(path)), "cpu", load_weights=False)
    samples = []
    for number, image in enumerate(about["images"]):
        (file,) = (DATA / "images").rglob(image["file"])
        pixels = tv_tensors.Image(read_image(file))
        assert list(pixels.shape[-2:]) == image["ori_shape"]
        for transform in parts.plan.build("val.transforms"):
            pixels = transform(pixels)
        down, across = (
            round(side * by) for side, by in zip(image["ori_shape"], image["scale_factor"][::-1], strict=True)
        )
        assert tuple(pixels.shape[-2:]) == (down, across)
        samples.append((pixels, {"image_id": number, "original": tuple(image["ori_shape"])}))
    batch = parts.preprocess(collate(samples))
    assert batch.images.shape == reference.shape
    assert torch.allclose(1 / batch.scale, torch.tensor([image["scale_factor"] for image in about["images"]]))
    grey = ((batch.images - reference) * parts.preprocess.std).abs()
    assert grey.mean() <= 0.5
    assert grey.flatten().kthvalue(int(grey.numel() * 0.999)).values <= 1.5
