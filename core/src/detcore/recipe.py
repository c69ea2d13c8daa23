"""The keys of a config: what a recipe may say at the top level and in its sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
from pydantic import NonNegativeInt, PositiveInt
from torch.optim import Optimizer
from torchvision.transforms.v2 import Transform

from detcore.interfaces import Callback, Dataset, Detector, Evaluator, Factory, Order, Schedule, Section
from detcore.preprocess import Preprocess
from detcore.runner.parameters import ParamRule


@attrs.frozen(kw_only=True, eq=False)
class TrainSettings:
    """``[train]``: the data and the loop.

    Attributes:
        dataset: The images to train on.
        epochs: How often they are gone through; or
        steps: how many steps are made.
        batch_size: Images per batch, of all processes together.
        accumulate: Batches whose gradients one step sums up.
        base_batch_size: Images per step that the learning rate is meant for; it is scaled to those there are.
        transforms: Called in order on (image, target).
        order: Which samples come when in an epoch; by default all of them, shuffled.
        workers: Processes that read data; the result does not depend on it.
        prefetch: Batches that each of them reads ahead.
        persistent_workers: Keep them from epoch to epoch.
        drop_last: Leave out a last batch that is not full.
        amp: Mixed precision.
        compile: Train through torch.compile; ``preprocess.buckets`` keeps the number of sizes small.
        clip_grad: The most that the norm of all gradients may be.
        watch_every_step: Look at each step's losses for what is not finite, which waits for the device; by default only
            on the CPU, elsewhere at each report.
        save_every: Steps between checkpoints, beside one per epoch.
        keep: How many epochs' checkpoints are kept, beside the last and the best.
        best_metric: The metric, higher is better, by which ``best.pt`` is kept; by default the evaluator's first.
        report_every: Steps between lines of the log.
    """

    dataset: Dataset
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    base_batch_size: PositiveInt | None = None
    transforms: Sequence[Transform] = ()
    order: Factory[Order] | None = None
    workers: NonNegativeInt = 0
    prefetch: PositiveInt = 2
    persistent_workers: bool = True
    drop_last: bool = False
    amp: Literal["off", "bf16", "fp16"] = "off"
    compile: bool = False
    clip_grad: float | None = None
    watch_every_step: bool | None = None
    save_every: PositiveInt | None = None
    keep: NonNegativeInt = 0
    best_metric: str | None = None
    report_every: PositiveInt = 50


@attrs.frozen(kw_only=True, eq=False)
class ValSettings:
    """``[val]``: the data and the scores.

    Attributes:
        dataset: The images to evaluate on.
        evaluator: Scores the detections.
        transforms: Called in order on (image, target); they may resize, no more.
        batch_size: Images at once.
        workers: Processes that read data.
        every: Epochs between validations; the end of training is always validated.
        every_steps: Steps between validations, instead of epochs.
        loss: Compute the losses too.
    """

    dataset: Dataset
    evaluator: Factory[Evaluator]
    transforms: Sequence[Transform] = ()
    batch_size: PositiveInt = 1
    workers: NonNegativeInt = 0
    every: PositiveInt = 1
    every_steps: PositiveInt | None = None
    loss: bool = False


@attrs.frozen(kw_only=True, eq=False)
class Recipe:
    """The top level of a config. (``[vars]`` and ``[plugins]`` may stand beside.)

    Attributes:
        model: The detector.
        train: What it is trained on, and how.
        val: What it is evaluated on.
        preprocess: How images are normalised and padded; a checkpoint carries it.
        optimizer: Any of torch.optim.
        params: What is different for some parameters, by a name for each rule.
        schedule: Factors of the learning rate; several multiply.
        callbacks: What happens beside training, by name.
        init_from: Weights that training begins with: a path, an address, or a table of ``from``, ``prefix`` and
            ``sha256``; classes are matched by name. Not read where a run is resumed.
        classes: Names of the classes, in order; else those of the training data.
        class_subset: Whether ``classes`` may leave out what objects are annotated with; else that is an error.
        seed: Of everything random.
        device: ``auto`` is the best there is.
        channels_last: Keep maps channel by channel side by side in memory. By default where it is faster: on CPUs, and
            on CUDA in mixed precision.
        work_dir: Where the folders of runs go.
    """

    model: Detector | None = None
    train: Section[TrainSettings] | None = None
    val: Section[ValSettings] | None = None
    preprocess: Section[Preprocess] | None = None
    optimizer: Factory[Optimizer] | None = None
    params: Mapping[str, Section[ParamRule]] | None = None
    schedule: Sequence[Schedule] = ()
    callbacks: Mapping[str, Callback] | None = None
    init_from: str | Mapping[str, str] | None = None
    classes: Sequence[str] | None = None
    class_subset: bool = False
    seed: int = 0
    device: str = "auto"
    channels_last: bool | None = None
    work_dir: str = "runs"
