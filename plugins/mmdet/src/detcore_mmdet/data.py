"""MMEngine's data loaders and evaluators: ``[train]`` and ``[val]``, and what they say of ``[preprocess]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from detcore.foreign import Foreign, Part

from detcore_mmdet.transforms import Pipeline, chain, closed

WRAPPERS = ("RepeatDataset", "ClassBalancedDataset")
NEEDLESS = ("persistent_workers", "pin_memory", "collate_fn", "prefetch_factor", "worker_init_fn", "timeout")
FIXED = ("RandomChoiceResize", "Resize")


@attrs.frozen
class Split:
    """What a data loader became.

    Attributes:
        table: Of ``[train]`` or ``[val]``: ``dataset``, ``transforms``, ``batch_size``, ``workers``, ...
        preprocess: What its transforms say of normalising and padding.
        classes: Names by label; None where nobody names any, or data sets differ.
    """

    table: dict[str, Any]
    preprocess: dict[str, Any]
    classes: list[str] | None


def train_split(loader: Foreign) -> Split:
    """``train_dataloader``; ``batch_size`` is that of one process still."""
    pipeline = pipeline_of(loader.table("dataset"))
    found = _split(loader, pipeline, closed(pipeline.transforms))
    order = loader.part("batch_sampler")
    sampler = loader.table("sampler")
    kind = sampler.get("type", "DefaultSampler")
    if kind in ("DefaultSampler", "InfiniteSampler"):
        sampler.only(shuffle=True)
        for key in ("seed", "round_up"):
            sampler.get(key)
    else:
        order = loader.part("sampler") or order
    if order is not None:
        found.table["order"] = plain_part(order)
    if loader.get("drop_last"):
        found.table["drop_last"] = True
    return found


def val_split(loader: Foreign, evaluators: list[Foreign]) -> Split:
    """``val_dataloader`` and ``val_evaluator``: the first of several that has a counterpart."""
    pipeline = pipeline_of(loader.table("dataset"))
    for key in ("batch_sampler", "drop_last"):
        loader.get(key)
    loader.table("sampler").read |= {"type", "shuffle", "seed", "round_up"}
    found = _split(loader, attrs.evolve(pipeline, segmentation=None), list(pipeline.transforms))
    for table in evaluators:
        if "evaluator" in found.table:
            table.read |= {*table.values}
            table.note("type", "one evaluator is written: the first that has a counterpart")
        elif (part := table.translated()) is not None:
            found.table["evaluator"] = plain_part(part)
    if "dataset" in found.table and "segm" in found.table.get("evaluator", {}).get("metrics", ()):
        _everywhere(found.table["dataset"], "segmentation", "polygons")
    return found


def mixed(table: Foreign) -> Any:
    """MultiImageMixDataset: transforms that mix images are transforms here, so that it is the data set within it."""
    for key in ("pipeline", "dynamic_scale", "skip_type_keys", "max_refetch"):
        table.get(key)
    return table.part("dataset")


def plain_part(part: Any) -> Any:
    """A translation's table."""
    return part.plain if isinstance(part, Part) else part


def _split(loader: Foreign, pipeline: Pipeline, transforms: list[dict[str, Any]]) -> Split:
    for key in NEEDLESS:
        loader.get(key)
    dataset = plain_part(loader.part("dataset"))
    table: dict[str, Any] = {"batch_size": loader.get("batch_size", 1), "workers": loader.get("num_workers", 0)}
    if dataset is None:
        return Split({**table, "transforms": transforms}, pipeline.preprocess, None)
    if pipeline.segmentation:
        _everywhere(dataset, "segmentation", pipeline.segmentation)
    named = _classes(dataset)
    classes = named[0] if named and all(each == named[0] for each in named) else None
    if classes is not None:
        _everywhere(dataset, "classes", None)
    if pipeline.proposals:
        dataset = _with_proposals(loader, dataset)
    return Split({"dataset": dataset, "transforms": transforms, **table}, pipeline.preprocess, classes)


def _with_proposals(loader: Foreign, dataset: dict[str, Any]) -> dict[str, Any]:
    """A data set with regions from a file."""
    file = loader.table("dataset").get("proposal_file")
    loader.table("dataset").note("proposal_file", "regions are COCO's results JSON here: write them anew")
    return {"type": "ProposalsDataset", "dataset": dataset, "file": file or "proposals.json"}


# ------------------------------------------------------------------------------------------- data sets in data sets


def pipeline_of(dataset: Foreign) -> Pipeline:
    """The transforms of a data set, however deep in wrappers they stand."""
    kind = dataset.get("type")
    if kind == "MultiImageMixDataset":
        inner = pipeline_of(dataset.table("dataset"))
        outer = chain(dataset.tables("pipeline"), inner.transforms)
        preprocess = {**inner.preprocess, **outer.preprocess}
        return Pipeline(outer.transforms, preprocess, _mixed(inner, outer), inner.proposals or outer.proposals)
    if kind in WRAPPERS:
        return pipeline_of(dataset.table("dataset"))
    if kind == "ConcatDataset":
        parts = dataset.tables("datasets")
        found = [pipeline_of(part) for part in parts]
        for part, other in zip(parts[1:], found[1:], strict=False):
            if other != found[0]:
                part.lose("pipeline", "all data sets of training share one list of transforms: the first one's")
        return found[0] if found else Pipeline()
    return chain(dataset.tables("pipeline"))


def _mixed(inner: Pipeline, outer: Pipeline) -> str | None:
    pasted = any(each["type"] == "CopyPaste" for each in outer.transforms)
    return "masks" if inner.segmentation and pasted else outer.segmentation or inner.segmentation


def _leaves(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """The data sets that read files, below wrappers."""
    if "dataset" in dataset:
        return _leaves(dataset["dataset"])
    if "datasets" in dataset:
        return [leaf for part in dataset["datasets"].values() for leaf in _leaves(part)]
    return [dataset]


def _everywhere(dataset: dict[str, Any], key: str, value: Any) -> None:
    """Set a key of all that read files; None takes it away."""
    for leaf in _leaves(dataset):
        leaf.pop(key, None)
        if value is not None:
            leaf[key] = value


def _classes(dataset: dict[str, Any]) -> list[list[str]]:
    return [leaf["classes"] for leaf in _leaves(dataset) if leaf.get("classes")]


# ------------------------------------------------------------------------------------------------ [preprocess]


def preprocess(model: Mapping[str, Any], train: Mapping[str, Any], val: Split | None) -> dict[str, Any]:
    """The table ``[preprocess]`` of what the model says of it and what transforms do.

    Args:
        model: Of ``data_preprocessor``.
        train: What the transforms of training say.
        val: The validation's, whose padding decides where both pad.
    """
    tested = dict(val.preprocess) if val is not None else {}
    tested = {**{key: value for key, value in train.items() if key in ("mean", "std", "color")}, **tested}
    if val is None:
        tested = {**train, **tested}
    if tested.pop("square", False) and val is not None and (size := _square(val.table["transforms"])):
        tested["size"] = size
    merged = {**model, **tested}
    divisor = max(int(model.get("divisor", 1)), int(tested.get("divisor", 1)))
    if not merged.get("mean"):
        merged |= {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    merged.pop("square", None)
    padding = {"divisor": divisor, "pad_value": float(merged.get("pad_value", 0)), "pad": merged.get("pad", "after")}
    return {**merged, "color": merged.get("color", "bgr"), **padding}


def _square(transforms: list[dict[str, Any]]) -> list[int] | None:
    """The side of the square that images are padded to, where all are resized into one."""
    sizes = [each.get("sizes", [each.get("size")]) for each in transforms if each["type"] in FIXED]
    last = sizes[-1][0] if sizes and len(sizes[-1]) == 1 else None
    return list(last) if isinstance(last, list) and last[0] == last[1] else None


TRANSLATIONS = {"MultiImageMixDataset": mixed}
