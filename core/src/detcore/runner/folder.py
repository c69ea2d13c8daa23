"""The files of a run's folder beside logs, checkpoints and pictures."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
import torchvision

from detcore import distributed
from detcore.errors import CheckpointError
from detcore.files import write_text
from detcore.interfaces import Callback
from detcore.report import Flaw, summarize
from detcore.runner.state import Run


def run_folder(runs: Path, source: str, work_dir: str | None, resume: str | None) -> Path:
    """Where a run of a config goes: where it is told, where it was, or to a new folder named by the time.

    Args:
        runs: Where the folders of runs are.
        source: The config.
        work_dir: The folder, if it is told.
        resume: A checkpoint, or ``auto``.
    """
    if work_dir:
        return Path(work_dir)
    if resume and resume != "auto":
        return Path(resume).parent.parent
    runs = runs / Path(source.rpartition("::")[2]).stem
    if resume:
        written = sorted(runs.glob("*/checkpoints/last.pt"), key=lambda path: path.stat().st_mtime)
        return written[-1].parent.parent if written else runs
    folder = runs / datetime.now().strftime("%Y%m%d-%H%M%S")
    while folder.exists():  # another run began in this second
        folder = folder.with_name(f"{folder.name}-2")
    return folder


def last_of(folder: Path) -> Path:
    """The newest checkpoint of a run.

    Raises:
        CheckpointError: It has none.
    """
    path = folder / "checkpoints" / "last.pt"
    if not path.is_file():
        raise CheckpointError(str(folder), "holds no checkpoint to resume from", "Train without --resume first.")
    return path


def environment(plugins: Mapping[str, str]) -> dict[str, Any]:
    """What a run ran with: versions of Python, torch and plugins, and the machine's kind."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "cores": os.cpu_count(),
        "processes": distributed.world_size(),
        "plugins": dict(sorted(plugins.items())),
    }


class RunFolder(Callback):
    """Writes ``metrics.json``, ``predictions.json`` (COCO's results of the last validation) and ``data_report.json``.

    The report holds what the datasets had to live with: how many flaws of each kind, each of them, and how many objects
    transforms dropped.
    """

    stage: ClassVar[str] = "report"

    def __init__(self) -> None:
        self.flaws: dict[str, dict[Flaw, None]] = {"train": {}, "val": {}}
        self.dropped = 0
        self.written = ""

    def run_started(self, run: Run) -> None:
        """What the training data had when it was opened."""
        self._note("train", getattr(run.loader.dataset, "report", ()))
        self._report(run)

    def reported(self, run: Run, values: Mapping[str, float]) -> None:
        """What was found since the last report."""
        self.dropped += round(values.get("dropped", 0))
        self._note("train", run.window.flaws)
        self._report(run)

    def evaluated(self, run: Run, metrics: Mapping[str, float]) -> None:
        """The metrics, the predictions, and the flaws of the validation data."""
        assert run.evaluation is not None, "called with an evaluation"
        at = {"epoch": run.epoch + 1, "step": run.step}
        write_text(run.folder / "metrics.json", json.dumps({**at, **metrics, "best": run.best}, indent=2) + "\n")
        write_text(run.folder / "predictions.json", json.dumps(run.evaluation.results))
        self._note("val", [*getattr(run.evaluation.dataset, "report", ()), *run.evaluation.flaws])
        self._note("train", run.window.flaws)
        self._report(run)

    def run_ended(self, run: Run) -> None:
        """The flaws of the last steps."""
        self._note("train", run.window.flaws)
        self._report(run)

    def state_dict(self) -> dict[str, Any]:
        """What was found so far: a resumed run does not read the first images again."""
        flaws = {
            split: [(each.where, each.what, each.action, each.kind) for each in found]
            for split, found in self.flaws.items()
        }
        return {"flaws": flaws, "dropped": self.dropped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.dropped = state["dropped"]
        for split, rows in state["flaws"].items():
            self._note(split, [Flaw(*row) for row in rows])

    def _note(self, split: str, flaws: Iterable[Flaw]) -> None:
        self.flaws[split].update(dict.fromkeys(flaws))

    def _report(self, run: Run) -> None:
        report: dict[str, Any] = {
            split: {"counts": summarize(found), "flaws": [attrs.asdict(flaw) for flaw in found]}
            for split, found in self.flaws.items()
        }
        report["train"]["objects dropped by transforms"] = self.dropped
        text = json.dumps(report, indent=2) + "\n"
        if text != self.written:
            write_text(run.folder / "data_report.json", text)
            self.written = text
