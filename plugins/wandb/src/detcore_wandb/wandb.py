"""A run in Weights & Biases."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from detcore.callbacks.logger import Logger
from detcore.errors import ConfigError


class WandbLog(Logger):
    """Sends a run to Weights & Biases, or keeps it in the run's folder for ``wandb sync``.

    It asks nothing, writes nothing outside the run's folder and reports no errors to its makers. A run that is resumed
    goes on under the same id; what it logs again stands beside what it had logged.

    Args:
        project: Where the run is shown.
        name: How it is shown; None: as its folder is called.
        entity: Whose project; None: the user's.
        tags: To find it by.
        mode: ``online``, ``offline`` or ``disabled``; None: what ``WANDB_MODE`` says, else ``online``.
    """

    def __init__(
        self,
        *,
        project: str = "detcore",
        name: str | None = None,
        entity: str | None = None,
        tags: Sequence[str] = (),
        mode: Literal["online", "offline", "disabled"] | None = None,
    ) -> None:
        self.project = project
        self.name = name
        self.entity = entity
        self.tags = tags
        self.mode = mode
        self.id: str | None = None
        self.run: Any = None

    def open(self, run: Any) -> None:
        """Begins the run, or goes on with it.

        Raises:
            ConfigError: It is to be online, and there is no API key.
        """
        with _kept_in(run.folder.resolve() / "wandb"):
            import wandb  # noqa: PLC0415 (heavy)

            mode = self.mode or os.environ.get("WANDB_MODE", "online")
            if mode == "online" and not wandb.login(prompt=False):
                fix = 'Run "wandb login", set WANDB_API_KEY, or write mode = "offline".'
                raise ConfigError("WandbLog", "has no API key", fix)
            self.run = wandb.init(
                project=self.project,
                name=self.name or run.folder.name,
                entity=self.entity,
                tags=list(self.tags),
                mode=mode,  # type: ignore[arg-type]
                dir=str(run.folder.resolve()),  # another process writes, maybe elsewhere
                config=tomllib.loads(run.meta.get("config", "")),
                id=self.id,
                resume="allow" if self.id and mode == "online" else None,
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
            )
        self.id = self.run.id
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One row of the history."""
        self.run.log({**values, "step": step})

    def picture(self, path: Path, step: int) -> None:
        """A copy, in the history."""
        import wandb  # noqa: PLC0415

        self.run.log({"samples": wandb.Image(str(path)), "step": step})

    def close(self, *, failed: bool) -> None:
        """Waits until everything is sent."""
        if self.run is not None:
            self.run.finish(exit_code=int(failed))

    def state_dict(self) -> dict[str, Any]:
        """Which run it is."""
        return {"id": self.id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.id = state["id"]


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """Caches go into ``folder``, errors nowhere, unless the environment says otherwise; afterwards it is as before."""
    before = set(os.environ)
    for name in ("CACHE", "DATA", "ARTIFACT"):
        os.environ.setdefault(f"WANDB_{name}_DIR", str(folder / name.lower()))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        yield
    finally:
        for name in os.environ.keys() - before:
            del os.environ[name]
