"""Checkpoints of the reference become our detectors' tensors, whatever torch wrote them, and go back byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import mmdet_files
import pytest
import torch
from detcore_mmdet import import_checkpoint, read_checkpoint
from detcore_mmdet.export import export
from parity import golden
from torch import Tensor


def made(case: golden.Case) -> dict[str, Tensor]:
    """The reference's state dict."""
    filled = {name: name.endswith(golden.FILLED) for name, _ in case.info["state_dict"]}
    return {
        name: torch.from_numpy(case.formula.weight(name, tuple(shape))) if filled[name] else torch.zeros(shape).long()
        for name, shape in case.info["state_dict"]
    }


@pytest.mark.parametrize(("name", "zipped"), [("retinanet_r50", False), ("faster_rcnn_r50", True), ("yolox_s", False)])
def test_an_imported_checkpoint_is_the_references(tmp_path: Path, name: str, zipped: bool) -> None:
    case = golden.load(name)
    detector, found = case.translated(tmp_path)
    state, path = made(case), tmp_path / "theirs.pth"
    mmdet_files.save(mmdet_files.of_3x(state), path, zipped=zipped)

    ours, lines = import_checkpoint(path, found.part, detector.state_dict())
    assert lines == ["not read: message_hub, optimizer"]
    detector.load_state_dict(ours)
    twin = case.translated(tmp_path)[0]
    names = case.fill_translated(twin, found)
    expected = twin.state_dict()
    assert [
        each for each in names if each.endswith(golden.FILLED) and not torch.equal(ours[each], expected[each])
    ] == []

    meta = {"config": (tmp_path / f"{name}.toml").read_text(), "mmdet": {"model": json.dumps(case.info["model"])}}
    torch.save({"model": detector.state_dict(), "meta": meta}, tmp_path / "ours.pt")
    export(tmp_path / "ours.pt", tmp_path / "back.pth")
    again = read_checkpoint(tmp_path / "back.pth").state
    assert {*again} == {*state}
    assert [each for each in state if bytes_of(again[each]) != bytes_of(state[each])] == []


def bytes_of(tensor: Tensor) -> tuple[torch.dtype, bytes]:
    return tensor.dtype, tensor.contiguous().numpy().tobytes()
