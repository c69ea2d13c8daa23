"""MMDetection's ``model`` table in detcore's words. What each component is called here, its own plugin knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from detcore.catalog import IMPORTER, Catalog, Component, resolve
from detcore.errors import PluginError
from detcore.foreign import Foreign, Log, Part, Remark, Translate
from detcore.plugins import discover


@attrs.frozen
class Translated:
    """What became of a ``model`` table.

    Attributes:
        part: The detector; :attr:`model` is its table, and it knows the names of its tensors there.
        preprocess: The table ``[preprocess]``; empty where there is none.
        callbacks: What it does to whole batches, which are callbacks here, by name.
        num_classes: C; None where the heads do not say, or disagree.
        lost: What has no counterpart, by key path.
        notes: What was taken over otherwise than as it was.
    """

    part: Part
    preprocess: Mapping[str, Any]
    callbacks: Mapping[str, Any]
    num_classes: int | None
    lost: Sequence[Remark]
    notes: Sequence[Remark]

    @property
    def model(self) -> dict[str, Any]:
        """The table ``[model]``."""
        return self.part.plain


def translate(model: Mapping[str, Any], catalog: Catalog | None = None) -> Translated:
    """MMDetection's ``model`` table, resolved, in detcore's words.

    Args:
        model: As a config of MMDetection has it, 2.x or 3.x.
        catalog: The plugins that know names; None: all that are installed.
    """
    return read_model(Foreign(plain(model), "model", Log(translations(catalog or discover()))))


def read_model(table: Foreign) -> Translated:
    """The same, of a table that remarks are made on."""
    log = table.log
    processor = table.table("data_preprocessor")
    preprocess, callbacks = _preprocess(processor), _augments(processor)
    part = detector(table)
    classes = log.classes
    if len(classes) > 1:
        table.note("num_classes", f"the heads have different numbers of classes: {sorted(classes)}")
    num_classes = next(iter(classes)) if len(classes) == 1 else None
    log.lost.extend(table.unread())
    return Translated(part, preprocess, callbacks, num_classes, log.lost, log.notes)


def translations(catalog: Catalog) -> dict[str, Translate]:
    """Every name of MMDetection's that an installed plugin translates.

    Raises:
        PluginError: Two of them translate the same.
    """
    found: dict[str, Translate] = {}
    for entry in catalog.entries:
        record = entry.record
        if isinstance(record, Component) and (record.kind, record.name) == (IMPORTER, "mmdet"):
            more = resolve(record.target, record.target, f"importer mmdet ({entry})")
            if twice := found.keys() & more.keys():
                raise PluginError(record.target, f"translates {', '.join(sorted(twice))}, as another plugin does")
            found |= more
    return found


def plain(value: Any) -> Any:
    """Mappings as dicts and sequences as lists, all the way down."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def detector(model: Foreign) -> Part:
    """A detector by its parts: most classes of detectors there do nothing but pass them on."""
    model.read |= {"type"}
    if own := model.log.translations.get(str(model.get("type"))):
        part = own(model)
        if isinstance(part, Part):
            return part
    if model.get("init_cfg"):
        model.note("init_cfg", "core-run import-mmdet CONFIG CHECKPOINT makes one of ours of it: then set init_from")
    shared = {"backbone": backbone(model), "neck": neck(model)}
    train, test = model.table("train_cfg"), model.table("test_cfg")
    if "roi_head" not in model:
        head = model.part("bbox_head", train_cfg=train, test_cfg=test)
        return model.into("OneStage", **shared, head=head)
    rpn_head: Any = {"type": "GivenProposals"}
    if "rpn_head" in model:
        proposal = train.table("rpn_proposal")
        rpn_head = model.part("rpn_head", train_cfg=train.table("rpn"), proposal=proposal, test_cfg=test.table("rpn"))
    return model.into(
        "TwoStage",
        **shared,
        rpn_head=rpn_head,
        roi_head=model.part("roi_head", stages=train.tables("rcnn"), test_cfg=test.table("rcnn")),
    )


def backbone(model: Foreign) -> Any:
    """The backbone, and the weights that it begins with: of the whole model (2.x) or its own."""
    part = model.part("backbone")
    old = model.get("pretrained")
    weights = model.table("backbone").get("init_cfg") or ({"type": "Pretrained", "checkpoint": old} if old else None)
    if part is None or weights is None:
        return part
    if isinstance(weights, Mapping) and weights.get("type") == "Pretrained":
        source = _weights(model, str(weights.get("checkpoint")), str(weights.get("prefix", "")))
        return attrs.evolve(part, table={**part.table, **source})
    model.table("backbone").note("init_cfg", "what tensors begin with is the component's own choice here")
    return part


def _weights(model: Foreign, checkpoint: str, prefix: str) -> dict[str, Any]:
    """The key ``weights`` for the address of a checkpoint; none where only MMDetection knows what it stands for."""
    scheme, _, name = checkpoint.rpartition("://")
    if scheme == "torchvision":
        return {"weights": f"{checkpoint}/IMAGENET1K_V1"}
    if scheme in ("", "http", "https"):
        return {"weights": {"from": checkpoint, "prefix": prefix} if prefix else {"from": checkpoint}}
    path = "model.backbone.init_cfg.checkpoint"
    model.log.notes.append(Remark(path, checkpoint, f'download it and write weights = {{ from = "{name}.pth" }}'))
    return {}


def neck(model: Foreign) -> Any:
    """The neck: none, one, or several in a row."""
    necks = [each.translated() for each in model.tables("neck")]
    return necks[0] if len(necks) == 1 else necks or None


def _preprocess(table: Foreign) -> dict[str, Any]:
    """The table ``[preprocess]``."""
    if not table.values:
        return {}
    table.only(type="DetDataPreprocessor", boxtype2tensor=True, pad_seg=False, seg_pad_value=255)
    ours: dict[str, Any] = table.keep(mean="mean", std="std", pad_value="pad_value")
    ours["divisor"] = table.get("pad_size_divisor", 1)
    swapped = table.get("bgr_to_rgb", False)
    if table.get("rgb_to_bgr", False):
        table.lose("rgb_to_bgr", "images are read as BGR there: this would swap them to RGB, as bgr_to_rgb does")
    ours["color"] = "rgb" if swapped else "bgr"
    if "mean" not in ours or ours["mean"] is None:
        ours |= {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    table.get("pad_mask")  # masks follow their images here
    table.get("mask_pad_value")
    return {key: value for key, value in ours.items() if value is not None}


def _augments(table: Foreign) -> dict[str, Any]:
    """What is done to whole batches in training: callbacks by name."""
    found: dict[str, Any] = {}
    for each in table.tables("batch_augments"):
        found |= (each.translated() or {}).get("callbacks", {})
    return found
