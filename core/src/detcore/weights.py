"""Weights for one component: ``weights = "torchvision://..."`` or ``{from = "x.pth", prefix = "backbone."}``.

``from`` is a file, an address (``https://...``, kept in a cache) or ``scheme://name`` of a plugin's weight source.
"""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import filelock
import platformdirs
from torch import nn

from detcore.catalog import WEIGHT_SOURCE, Catalog
from detcore.errors import CheckpointError, ConfigError
from detcore.loading import LoadReport, load_state, read_weights

_CHUNK = 1 << 20


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
        UserError: The source is unknown, the file is missing or not the one that ``sha256`` means, nothing fits.
    """
    source = parse(spec, where)
    scheme, separator, name = source.address.partition("://")
    if separator and scheme not in ("http", "https", "file"):
        weights = catalog.find(WEIGHT_SOURCE, scheme, where).obj(name)
        return load_state(module, weights, where, prefix=source.prefix)
    path = Path(name if scheme == "file" else source.address).expanduser()
    if scheme in ("http", "https") and separator:
        path = download(source, where)
    elif not path.is_file():
        raise ConfigError(where, f"{path} does not exist", _wanted(source, path))
    if source.sha256 and digest(path) != source.sha256:
        raise ConfigError(where, f"{path} has the sha256 {digest(path)}", f"Wanted {source.sha256}.")
    return load_state(module, read_weights(path), where, prefix=source.prefix)


def download(source: Source, where: str) -> Path:
    """The file behind an address, from the cache where it is there; other processes wait for the one fetching."""
    key = hashlib.sha256(source.address.encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("detcore") / "weights" / key
    path = folder / (source.address.rstrip("/").rpartition("/")[2] or "weights")
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / "lock"):
        if path.is_file():
            return path
        part = path.with_name(f".{path.name}.part")
        try:
            with urllib.request.urlopen(source.address) as response, part.open("wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
        except (OSError, ValueError) as error:  # URLError is an OSError
            part.unlink(missing_ok=True)
            reason = getattr(error, "reason", error)
            raise CheckpointError(
                where, f"{source.address} cannot be fetched: {reason}", _wanted(source, path)
            ) from error
        if source.sha256 and digest(part) != source.sha256:
            found = digest(part)
            part.unlink()
            raise CheckpointError(where, f"{source.address} has the sha256 {found}", f"Wanted {source.sha256}.")
        part.replace(path)
    return path


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wanted(source: Source, path: Path) -> str:
    return f"Put it at {path}{f' (sha256 {source.sha256})' if source.sha256 else ''}."
