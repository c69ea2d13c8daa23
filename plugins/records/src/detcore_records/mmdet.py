"""What all data sets of MMDetection say in the same way, for the plugins that translate them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from detcore.foreign import Foreign

WITHOUT_MEANING = (
    "pipeline",  # the training's or the validation's here, and read by who translates these
    "test_mode",
    "backend_args",
    "file_client_args",
    "lazy_init",
    "serialize_data",
    "max_refetch",
    "return_classes",
)
"""Keys that choose how files are read there, or that only its code knows."""


@attrs.frozen
class Shared:
    """What :func:`shared` read.

    Attributes:
        annotations: The file or folder of annotations.
        images: The folder of images.
        root: What paths began with.
        prefix: The folders by their names there, joined with ``root``.
        classes: Names by label; None where nobody names any.
        keep_empty: False where images without an object are left out.
    """

    annotations: str | None
    images: str | None
    root: str
    prefix: Mapping[str, str]
    classes: Sequence[str] | None
    keep_empty: bool | None

    @property
    def table(self) -> dict[str, Any]:
        """The keys that many data sets have here under one name."""
        return {
            "classes": self.classes and [*self.classes],
            "annotations": self.annotations,
            "images": self.images,
            "keep_empty": self.keep_empty,
        }


def shared(table: Foreign, usual: Sequence[str] | None = None) -> Shared:
    """The keys of a data set's table that all of them have.

    Args:
        table: It.
        usual: Its classes where the table names none.
    """
    for key in WITHOUT_MEANING:
        table.get(key)
    table.only(indices=None)
    root = table.get("data_root") or ""
    prefixes = table.get("data_prefix") or {}
    prefixes = prefixes if isinstance(prefixes, Mapping) else {"img": prefixes}
    prefix = {name: joined(root, folder) for name, folder in prefixes.items() if isinstance(folder, str)}
    file = table.get("ann_file")
    images = prefix.get("img", prefix.get("img_path", joined(root, "")))
    filtered = table.table("filter_cfg")
    if filtered.get("min_size") and "metainfo" in table:  # the files that a class knows have no smaller image
        filtered.note("min_size", "images with a side below it are kept")
    keep = False if filtered.get("filter_empty_gt", False) and not table.get("test_mode") else None
    annotations = joined(root, file) if isinstance(file, str) and file else None
    return Shared(annotations, images or None, root, prefix, _classes(table, usual), keep)


def joined(root: str, path: str) -> str:
    """A path below another one, without needless slashes; addresses stay as they are."""
    if "://" in path or "://" in root:
        return path if "://" in path or not root else f"{root.rstrip('/')}/{path}"
    return posixpath.normpath(posixpath.join(root, path)) if root or path else ""


def _classes(table: Foreign, usual: Sequence[str] | None) -> Sequence[str] | None:
    """Names by label, of ``metainfo``, which may write them in two ways."""
    about = table.table("metainfo")
    for key in ("palette", "PALETTE", "dataset_type"):
        about.get(key)
    names = about.get("classes", about.get("CLASSES"))
    about.get("CLASSES")
    if isinstance(names, str):
        about.lose("classes", "it is one text, a file of names there: write the names")
        return None
    return usual if names is None else [str(name) for name in names]
