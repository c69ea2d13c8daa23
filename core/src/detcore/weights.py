"""Weights for one component: ``weights = "torchvision://..."`` or ``{from = "x.pth", prefix = "backbone."}``.

``from`` is a file, an address (``https://...``, kept in a cache) or ``scheme://name`` of a plugin's weight source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import filelock
from torch import nn
from torch.hub import download_url_to_file

from detcore.catalog import WEIGHT_SOURCE, Catalog
from detcore.errors import CheckpointError, ConfigError, UserError, one_line
from detcore.files import cache_folder
from detcore.loading import LoadReport, load_state, read, weights_in


@attrs.frozen
class Source:
    """Where weights come from.

    Attributes:
        address: ``from``: a path or an address.
        prefix: Only tensors whose name begins with it count, without it.
        sha256: Of the file; checked where given.
    """

    address: str
    prefix: str = ""
    sha256: str = ""


def parse(spec: Any, where: str) -> Source:
    """What the key ``weights`` says. Raises ConfigError."""
    table = {"from": spec} if isinstance(spec, str) else spec
    wanted = 'wanted "scheme://name", a path, or {from = "...", prefix = "...", sha256 = "..."}'
    if not isinstance(table, Mapping) or "from" not in table or set(table) - {"from", "prefix", "sha256"}:
        raise ConfigError(where, f"found {spec!r}", wanted)
    if not all(isinstance(value, str) for value in table.values()):
        raise ConfigError(where, "from, prefix and sha256 are strings", wanted)
    return Source(table["from"], table.get("prefix", ""), table.get("sha256", ""))


def load(module: nn.Module, spec: Any, where: str, catalog: Catalog) -> LoadReport:
    """Load what fits into ``module``; the report says what did not.

    Raises:
        UserError: As of :func:`fetch`; or nothing fits.
    """
    source = parse(spec, where)
    return load_state(module, weights_in(fetch(source, where, catalog), where), where, prefix=source.prefix)


def fetch(source: Source, where: str, catalog: Catalog) -> Mapping[str, Any]:
    """The content of a file, or the tensors that a plugin's weight source gives, by name.

    Raises:
        UserError: The source is unknown, the file is missing or not the one that ``sha256`` means.
    """
    scheme, _, name = source.address.rpartition("://")
    try:
        if scheme in ("", "file", "http", "https"):
            return read(_file(source, where))
        tensors: Mapping[str, Any] = catalog.find(WEIGHT_SOURCE, scheme, where).obj(name)
        return tensors
    except UserError as error:
        if error.where == where:
            raise
        raise type(error)(where, ": ".join(filter(None, (error.where, error.found))), error.fix) from error
    except Exception as error:  # of a plugin's source
        raise CheckpointError(where, f"{source.address}: {one_line(error)}") from error


def _file(source: Source, where: str) -> Path:
    if source.address.startswith(("http://", "https://")):
        path = download(source, where)
    else:
        path = Path(source.address.removeprefix("file://")).expanduser()
    if not path.is_file():
        raise ConfigError(where, f"{path} does not exist", _wanted(source, path))
    if source.sha256 and digest(path) != source.sha256:
        raise ConfigError(where, f"{path} has the sha256 {digest(path)}", f"Wanted {source.sha256}.")
    return path


def download(source: Source, where: str) -> Path:
    """The file behind an address, from the cache where it is there; other processes wait for the one fetching."""
    key = hashlib.sha256(source.address.encode()).hexdigest()[:16]
    folder = cache_folder("weights") / key
    path = folder / (source.address.rstrip("/").rpartition("/")[2] or "weights")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock"):
            if not path.is_file():
                download_url_to_file(source.address, str(path), source.sha256 or None, progress=False)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: another hash; nothing is kept
        found = f"{source.address} cannot be fetched: {one_line(error)}"
        raise CheckpointError(where, found, _wanted(source, path)) from error
    return path


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wanted(source: Source, path: Path) -> str:
    return f"Put it at {path}{f' (sha256 {source.sha256})' if source.sha256 else ''}."
