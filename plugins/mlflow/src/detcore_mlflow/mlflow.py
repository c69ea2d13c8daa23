"""A run in MLflow."""

from __future__ import annotations

import logging
import os
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from detcore.callbacks.logger import Logger

ValueT = TypeVar("ValueT")
KEY, VALUE, PARAMS, METRICS = 250, 6000, 100, 1000
"""MLflow's limits: characters of a name and of a parameter, parameters and metrics sent at once."""


class MlflowLog(Logger):
    """Keeps a run in a database in its folder, or sends it to a server of MLflow.

    The config becomes parameters (``model.backbone.type``) and a file. A run that is resumed goes on under the same id,
    with the parameters that it began with. MLflow's telemetry is off.

    Args:
        tracking_uri: Of a server or database; None: what ``MLFLOW_TRACKING_URI`` says, else ``mlflow/mlflow.db`` in the
            run's folder.
        experiment: Where the run is shown.
        name: How it is shown; None: as its folder is called.
    """

    def __init__(
        self, *, tracking_uri: str | None = None, experiment: str = "detcore", name: str | None = None
    ) -> None:
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.name = name
        self.id: str | None = None
        self.client: Any = None

    def open(self, run: Any) -> None:
        """Begins the run, or goes on with it where it is known."""
        local = run.folder.resolve() / "mlflow"
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            local.mkdir(parents=True, exist_ok=True)
        with _quiet():
            from mlflow import MlflowClient  # noqa: PLC0415 (heavy)

            self.client = MlflowClient(uri or f"sqlite:///{local / 'mlflow.db'}")
            experiment = self._experiment(None if uri else (local / "artifacts").as_uri())
            if not (self.id and self._go_on()):
                self.id = self.client.create_run(experiment, run_name=self.name or run.folder.name).info.run_id
                self._parameters(run.meta.get("config", ""))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """All in one request, or in as few as can be."""
        from mlflow.entities import Metric  # noqa: PLC0415

        now = int(time.time() * 1000)
        for some in _parts(values, METRICS):
            self.client.log_batch(self.id, [Metric(_key(name), value, now, step) for name, value in some.items()])

    def picture(self, path: Path, step: int) -> None:
        """The file ``samples/<step>/samples.png``."""
        self.client.log_artifact(self.id, str(path), f"samples/{step}")

    def close(self, *, failed: bool) -> None:
        """Says how the run ended."""
        if self.id is not None and self.client is not None:
            self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")

    def state_dict(self) -> dict[str, Any]:
        """Which run it is."""
        return {"id": self.id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.id = state["id"]

    def _experiment(self, artifacts: str | None) -> str:
        known = self.client.get_experiment_by_name(self.experiment)
        found: str = known.experiment_id if known else self.client.create_experiment(self.experiment, artifacts)
        return found

    def _go_on(self) -> bool:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            self.client.update_run(self.id, status="RUNNING")
        except MlflowException as error:  # resumed in another folder, with another database
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def _parameters(self, config: str) -> None:
        from mlflow.entities import Param  # noqa: PLC0415

        for some in _parts(flat(tomllib.loads(config)), PARAMS):
            self.client.log_batch(self.id, params=[Param(name, value) for name, value in some.items()])
        self.client.log_text(self.id, config, "config.toml")


def flat(table: Mapping[str, Any]) -> dict[str, str]:
    """Values by dotted path, as MLflow takes them: ``{"schedule.0.type": "Cosine"}``. What is too long is cut."""
    return {_key(".".join(path)): _short(str(value), VALUE) for path, value in _leaves(table, ())}


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A list that holds tables is walked, any other is a value."""
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = {str(index): item for index, item in enumerate(value)}
    if not isinstance(value, Mapping):
        yield path, value
        return
    for name, item in value.items():
        yield from _leaves(item, (*path, name))


def _parts(table: Mapping[str, ValueT], size: int) -> Iterator[dict[str, ValueT]]:
    rest = iter(table.items())
    while part := dict(islice(rest, size)):
        yield part


def _key(name: str) -> str:
    return _short(re.sub(r"[^\w\-. :/]", "_", name), KEY)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow is imported without its telemetry, and tells nothing of how it makes a database."""
    told = "MLFLOW_DISABLE_TELEMETRY" in os.environ
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: F401, PLC0415

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        if not told:
            del os.environ["MLFLOW_DISABLE_TELEMETRY"]
