"""The recipe of blood cells on the real thing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from detcore import run

ROOT = Path(__file__).parents[2]
BCCD = Path(os.environ.get("DETCORE_TEST_DATA", ROOT.parent / "shared" / "data")) / "bccd"


@pytest.mark.skipif(not BCCD.is_dir(), reason=f"no real data at {BCCD}")
@pytest.mark.parametrize(("evaluator", "first"), [("CocoEvaluator", "bbox_AP"), ("VOCEvaluator", "mAP")])
def test_blood_cells_train_and_are_scored_as_coco_and_as_voc_score(evaluator: str, first: str, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("BloodImage_00343\nBloodImage_00001\n")
    sets = [
        f"data_root={json.dumps(str(BCCD))}", "vars.size=[60, 80]", "train.epochs=1", "train.batch_size=2",
        *(f"{split}.dataset.split={json.dumps(str(tmp_path / 'few.txt'))}" for split in ("train", "val")),
    ]  # fmt: skip
    swap = [f"val.evaluator={evaluator}"]
    metrics = run.train(str(ROOT / "configs/bccd/fcos_r18.toml"), sets=sets, swaps=swap, work_dir=str(tmp_path))
    assert next(iter(metrics)) == first
    assert "box without area: dropped" in (tmp_path / "data_report.json").read_text()
