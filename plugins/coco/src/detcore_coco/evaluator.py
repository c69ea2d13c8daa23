"""COCO's average precision and recall, of any dataset, computed by COCO's own code or by its fast twin."""

from __future__ import annotations

import gc
import importlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import attrs
import numpy as np
from detcore.errors import ConfigError, DataError
from detcore.interfaces import Dataset, Evaluator
from detcore.results import Row, to_rows
from detcore.structures import Detections

from detcore_coco.reading import read
from detcore_coco.truth import Truth, ground_truth

Engine = Literal["faster", "pycocotools"]
Metric = Literal["bbox", "segm", "proposal"]

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve figures in its order; s, m and l are objects below 32^2, below 96^2 and above, in pixels of area."""

PROPOSALS = ("AR100", "AR300", "AR1000", "ARs", "ARm", "ARl")
"""Recall of boxes whatever their class, with so many an image; that of sizes with 1000."""

ENGINES: Mapping[str, tuple[str, str]] = {
    "faster": ("faster_coco_eval:COCO", "faster_coco_eval:COCOeval_faster"),
    "pycocotools": ("pycocotools.coco:COCO", "pycocotools.cocoeval:COCOeval"),
}


class CocoEvaluator(Evaluator):
    """COCO's metrics: ``bbox_AP``, ``bbox_AP50``, ..., ``segm_ARl``, ``proposal_AR1000``; of classes ``bbox_AP/cat``.

    A figure that COCO leaves undefined (``APs`` where no object is small) is -1, as COCO has it. Without any detection
    all figures are 0. Images that are never updated count as images in which nothing was found.

    Args:
        dataset: What is evaluated on. Ground truth comes from its ``annotations(index)`` where it has this method (a
            target without its image), else from its samples' targets. A ``CocoDataset`` keeps COCO's own ids.
        engine: ``"faster"`` (faster-coco-eval, C++) or ``"pycocotools"``; their figures are the same to 1e-12.
        metrics: Of ``"bbox"``, ``"segm"`` and ``"proposal"``, in order. ``"segm"`` wants ``polygons`` or ``masks`` in
            targets and masks in detections; ``"proposal"`` is the recall of boxes whatever their class.
        per_class: Whether the average precision of each class is given too.

    Raises:
        ConfigError: No metrics, or one or an engine that does not exist.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        engine: Engine = "faster",
        metrics: Sequence[Metric] = ("bbox",),
        per_class: bool = True,
    ) -> None:
        if engine not in ENGINES:
            raise ConfigError("CocoEvaluator: engine", f'"{engine}"', f"Engines: {', '.join(ENGINES)}.")
        if not metrics or not {*metrics} <= {*get_args(Metric)}:
            fix = f"It lists one or more of: {', '.join(get_args(Metric))}."
            raise ConfigError("CocoEvaluator: metrics", f"{list(metrics)}", fix)
        self.dataset = dataset
        self.engine: Engine = engine
        self.metrics = tuple(metrics)
        self.per_class = per_class
        self._rows: dict[int | str, list[Row]] = {}

    def update(self, detections: Sequence[Detections], ids: Sequence[int | str]) -> None:
        """Take the detections of some images, in original pixels; of an image that comes again the last ones count.

        Raises:
            DataError: The dataset has no image with one of the ids; or masks are evaluated and there are none.
        """
        for found, id_ in zip(detections, ids, strict=True):
            if id_ not in self.truth.numbers:
                raise DataError(type(self).__name__, f"the dataset has no image {id_!r}")
            if "segm" in self.metrics and found.masks is None and len(found):
                where = f"{type(self).__name__}: metrics"
                raise DataError(where, "the detector gives no masks", 'Leave out "segm".')
            size = self.truth.sizes[id_] if "segm" in self.metrics else None
            self._rows[id_] = to_rows(found, id_, self.truth.category_ids, size)

    def update_rows(self, rows: Sequence[Mapping[str, Any]], where: str) -> bool:
        """Take rows with masks, where masks are evaluated; see :class:`detcore.interfaces.Evaluator`.

        Raises:
            DataError: A row has no mask, or that of an image of another size.
        """
        if "segm" not in self.metrics:
            return False
        for number, row in enumerate(rows):
            height, width = self.truth.sizes[row["image_id"]]
            mask = row.get("segmentation")
            if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
                fix = 'Masks are {"size": [height, width], "counts": text}; or leave out "segm".'
                raise DataError(f"{where}: [{number}]", "has no mask as run lengths", fix)
            if mask.get("size") != [height, width]:
                found = (
                    f"the mask is for an image of [height, width] {mask.get('size')}, this one has {[height, width]}"
                )
                raise DataError(f"{where}: [{number}]", found)
            self._rows.setdefault(row["image_id"], []).append({**row})
        return True

    def results(self) -> list[Row]:
        """All detections as COCO's results JSON has them, with the dataset's image ids and COCO's category ids."""
        return [row for rows in self._rows.values() for row in rows]

    def compute(self) -> dict[str, float]:
        """All metrics by name, as fractions."""
        figures: dict[str, float] = {}
        of_classes: dict[str, float] = {}
        rows = [{**row, "image_id": self.truth.numbers[row["image_id"]]} for row in self.results()]
        for metric in self.metrics:
            of_metric = rows
            if metric == "segm":  # a mask's size is its own, not that of its box
                of_metric = [{key: value for key, value in row.items() if key != "bbox"} for row in rows]
            scores = self.score(of_metric, metric)
            figures |= {f"{metric}_{name}": value for name, value in scores.figures.items()}
            if self.per_class:
                names = dict(zip(self.truth.category_ids, self.dataset.classes, strict=True))
                of_classes |= {f"{metric}_AP/{names[id_]}": value for id_, value in scores.per_class.items()}
        return figures | of_classes

    def score(self, rows: Sequence[Row], metric: Metric) -> Scores:
        """The figures of rows whose images have the numbers of :attr:`truth`."""
        return evaluate(self.truth.content, rows, metric, self.engine)

    @cached_property
    def truth(self) -> Truth:
        """The ground truth, made when it is first needed."""
        return ground_truth(self.dataset, outlines="segm" in self.metrics)


@attrs.frozen
class Scores:
    """What results are worth.

    Attributes:
        figures: COCO's twelve (``NAMES``), or those of proposals, by name.
        per_class: Average precision by the id of the category; -1 where it has no object. None of proposals.
    """

    figures: Mapping[str, float]
    per_class: Mapping[int, float]


def evaluate(truth: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metric: Metric, engine: Engine) -> Scores:
    """Scores of results against an instances table; zeros where there are no results."""
    if not rows:
        ids = [] if metric == "proposal" else [category["id"] for category in truth["categories"]]
        return Scores(dict.fromkeys(PROPOSALS if metric == "proposal" else NAMES, 0.0), dict.fromkeys(ids, 0.0))
    if metric == "proposal":
        done = accumulated(truth, rows, "bbox", engine, most=[100, 300, 1000], by_class=False)
        return Scores(_recalls(done.eval["recall"]), {})
    return scores_of(accumulated(truth, rows, metric, engine))


def scores_of(done: Any) -> Scores:
    """The scores of an evaluation that has accumulated, of classes."""
    with redirect_stdout(io.StringIO()):
        done.summarize()
    figures = zip(NAMES, map(float, done.stats), strict=False)
    precision = np.asarray(done.eval["precision"])[:, :, :, 0, -1]  # of objects of all sizes, 100 detections
    classes = zip(done.params.catIds, precision.transpose(2, 0, 1), strict=True)
    return Scores(dict(figures), {id_: mean(values) for id_, values in classes})


def accumulated(
    truth: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    kind: str,
    engine: Engine,
    *,
    most: Sequence[int] = (1, 10, 100),
    by_class: bool = True,
    **options: Any,
) -> Any:
    """COCO's evaluation of results, done but for its summary: ``eval`` has precision and recall.

    Args:
        truth: An instances table.
        rows: Results.
        kind: ``"bbox"`` or ``"segm"``.
        engine: Whose evaluation.
        most: So many detections of a class in an image count.
        by_class: Whether an object is found only by a detection of its class.
        options: Of the engine.
    """
    coco, coco_eval = (_import(address) for address in ENGINES[engine])
    with redirect_stdout(io.StringIO()), _uncollected():
        expected = coco()
        annotations = [{**row} for row in truth["annotations"]]  # the engines write into annotations and results
        expected.dataset = {**truth, "annotations": annotations}
        expected.createIndex()
        spared = {} if kind == "segm" else {"segmentation": ()}  # they would draw an outline of each box
        found = expected.loadRes([{**row, **spared} for row in rows])
        evaluation = coco_eval(expected, found, kind, **options)
        evaluation.params.useCats, evaluation.params.maxDets = int(by_class), [*most]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


@contextmanager
def _uncollected() -> Iterator[None]:
    """No cycles are looked for: the engines make millions of dicts without any, and each search goes through all."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _recalls(recall: Any) -> dict[str, float]:
    """``PROPOSALS`` of recalls by IoU, class (one), size and number of detections."""
    recall = np.asarray(recall)
    values = [recall[:, :, 0, number] for number in range(3)] + [recall[:, :, size, 2] for size in (1, 2, 3)]
    return dict(zip(PROPOSALS, map(mean, values), strict=True))


def mean(values: Any) -> float:
    """Of those that are defined; -1 where none is."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def evaluate_files(truth: str, results: str, metric: Metric = "bbox", engine: Engine = "faster") -> Scores:
    """Scores of a results file against an instances file.

    Raises:
        DataError: A file cannot be read or is not COCO's, or a result is of an image that the truth does not have.
    """
    expected = read(Path(truth), dict[str, Any])
    rows = read(Path(results), list[dict[str, Any]])
    for key in ("images", "annotations", "categories"):
        if key not in expected:
            raise DataError(truth, f"there is no {key}", "COCO's format has images, annotations and categories.")
    images = {image["id"] for image in expected["images"]}
    for number, row in enumerate(rows):
        if row.get("image_id") not in images:
            found = f"{truth} has no image {row.get('image_id')!r}"
            raise DataError(f"{results}: [{number}]", found, "Do the two files belong together?")
    return evaluate(expected, rows, metric, engine)


def _import(address: str) -> Any:
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)
