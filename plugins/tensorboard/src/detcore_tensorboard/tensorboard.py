"""A run in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detcore.callbacks.logger import Logger
from detcore.images import read_image


class TensorBoardLog(Logger):
    """Writes TensorBoard's event files into the run's folder.

    A resumed run hides what was written after the step at which it goes on.

    Args:
        folder: Where, in the run's folder.
        flush_secs: Seconds after which numbers are on disk.
    """

    def __init__(self, *, folder: str = "tensorboard", flush_secs: int = 30) -> None:
        self.folder = folder
        self.flush_secs = flush_secs
        self.writer: Any = None

    def open(self, run: Any) -> None:
        """Begins a file of events with the config."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (heavy)

        path, purge = str(run.folder / self.folder), run.step + 1 if run.step else None
        self.writer = SummaryWriter(path, purge_step=purge, flush_secs=self.flush_secs)
        if "config" in run.meta:
            self.writer.add_text("config", f"```toml\n{run.meta['config']}\n```", run.step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One event per number."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, path: Path, step: int) -> None:
        """An image."""
        self.writer.add_image("samples", read_image(path), step)

    def close(self, *, failed: bool) -> None:
        """Everything is on disk then."""
        if self.writer is not None:
            self.writer.close()
