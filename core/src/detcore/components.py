"""Core's own plugin: the kinds that detcore opens, and the parts that know no model. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from detcore.catalog import Component, Kind, Namespace
from detcore.hookspecs import hookimpl

_INTERFACES = {
    "backbone": ("Backbone", 0, "images to a pyramid of maps"),
    "neck": ("Neck", 0, "a pyramid to a pyramid"),
    "dense_head": ("DenseHead", 0, "maps to losses and detections"),
    "head_network": ("HeadNetwork", 0, "which numbers per prior"),
    "geometry": ("Geometry", 0, "where the priors are, and what a vector means in pixels"),
    "assigner": ("Assigner", 0, "which prior answers for which object"),
    "sampler": ("Sampler", 0, "which of the matched priors take part"),
    "loss": ("Loss", 0, "how wrong numbers are"),
    "dense_loss": ("DenseLoss", 0, "the losses of a composed dense head"),
    "decoder": ("Decoder", 0, "which detections come out"),
    "roi_head": ("RoIHead", 0, "proposals to losses and detections"),
    "roi_extractor": ("RoIExtractor", 0, "cuts the maps of regions out of a pyramid"),
    "box_head": ("BoxHead", 0, "class logits and deltas of a region"),
    "box_coder": ("BoxCoder", 0, "boxes relative to boxes"),
    "roi_branch": ("RoIBranch", 0, "what a second stage predicts beside boxes"),
    "roi_decoder": ("RoIDecoder", 0, "which regions become detections"),
    "detector": ("Detector", 0, "images to losses or detections"),
    "dataset": ("Dataset", 0, "images with objects, by number"),
    "order": ("Order", 2, "which samples come when; given the dataset and the batch size"),
    "evaluator": ("Evaluator", 1, "scores detections; given the dataset"),
    "schedule": ("Schedule", 0, "a factor of the learning rate"),
    "callback": ("Callback", 0, "something that happens beside training"),
    "norm": ("Norm", 1, "normalisation layers; given the channels"),
    "conv": ("Conv", 3, "convolutions; given channels in, channels out, kernel size"),
    "activation": ("Activation", 0, "activations"),
}

_ACTIVATIONS = ("ReLU", "LeakyReLU", "SiLU", "GELU", "ELU", "Hardswish", "Mish", "Sigmoid", "Identity")
_SCHEDULES = ("LinearWarmup", "MultiStep", "Constant", "Cosine", "Poly", "OneCycle")

_COMPONENTS = {
    "dense_head": ["detcore.heads.dense:ComposedHead"],
    "roi_stage": ["detcore.heads.roi:RoIStage"],
    "roi_head": ["detcore.heads.roi:ComposedRoIHead"],
    "detector": ["detcore.detectors:OneStage", "detcore.detectors:TwoStage"],
    "norm": [f"detcore.layers:{name}" for name in ("BN", "SyncBN", "GN", "LN")],
    "schedule": [f"detcore.schedules:{name}" for name in _SCHEDULES],
    "transform": ["detcore.data:Sanitize"],
    "callback": [
        "detcore.runner.logs:ConsoleLog",
        "detcore.runner.logs:JsonlLog",
        "detcore.callbacks.ema:EMA",
        "detcore.callbacks.pictures:Pictures",
        "detcore.callbacks.stopping:EarlyStopping",
        "detcore.callbacks.switch:PipelineSwitch",
    ],
    "conv": ["torch.nn:Conv2d"],
    "activation": [f"torch.nn:{name}" for name in _ACTIVATIONS],
}


@hookimpl
def detcore_components() -> Sequence[Component | Namespace | Kind]:
    """What every installation of detcore has."""
    return [
        *(
            Kind(name, f"detcore.interfaces:{interface}", supplies, summary)
            for name, (interface, supplies, summary) in _INTERFACES.items()
        ),
        Kind("roi_stage", "detcore.heads.roi:RoIStage", 0, "one look at the regions"),
        Kind("optimizer", "torch.optim:Optimizer", 1, "given the parameters"),
        Kind("transform", "torchvision.transforms.v2:Transform", 0, "an image and its target to the same"),
        *(
            Component(kind, target.partition(":")[2], target)
            for kind, targets in _COMPONENTS.items()
            for target in targets
        ),
        Namespace("optimizer", "torch.optim", "torch.optim:Optimizer"),
        Namespace("transform", "torchvision.transforms.v2", "torchvision.transforms.v2:Transform"),
    ]
