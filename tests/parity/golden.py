"""Holds a detector against a golden case: the reference's outputs for weights and images that are pure functions.

A parity test reads like this::

    from parity import golden

    case = golden.load("fcos_r50_caffe_gn")                 # skips where the folder of golden cases is absent
    names = case.fill(detector, reference_name)             # our state_dict name -> the reference's, one to one
    case.check_dense(detector, ["cls", "box", "centerness"])            # eval mode: features, raw maps, detections
    case.check_training(detector, names, {"loss_cls": "loss_cls"})      # losses, gradient norms, six steps of SGD

Each check is also there alone (``check_maps``, ``check_losses``, ``check_gradients``, ``check_curve``,
``check_detections``) and raises one AssertionError that names everything that differs. NaN never passes. The tolerances
are those of the README beside the cases. A decode case (``decode_...``) has a head whose network is ``Given``: it answers
with maps of ``case.given()`` (``case.check_decoding(case.head(tmp_path, {"cls": maps, ...}))``).
"""

from __future__ import annotations

import importlib.util
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from detcore import assemble
from detcore.build import plan
from detcore.config.dump import spell
from detcore.foreign import renamed
from detcore.interfaces import Detector, Features, HeadNetwork
from detcore.recipe import Recipe
from detcore.structures import Batch, Detections, Losses, Targets, total_loss
from detcore_mmdet import Translated, translate
from torch import Tensor, nn

FILLED = ("weight", "bias", "running_mean", "running_var")
"""Buffers of these names are filled, as parameters are; any other keeps the value it is built with."""

SWAPPED = 1e-6
"""Regions whose scores differ by less may stand in either order."""

Nested = Tensor | Sequence["Nested"] | Mapping[str, "Nested"]


def folder() -> Path:
    """The folder of golden cases; skips the test where there is none."""
    default = Path(__file__).resolve().parents[3] / "shared" / "golden"
    path = Path(os.environ.get("DETCORE_TEST_GOLDEN", default))
    if not (path / "formula.py").is_file():
        pytest.skip(f"no golden cases in {path} (set DETCORE_TEST_GOLDEN)")
    return path


def load(name: str) -> Case:
    """The case ``name`` (``fcos_r50_caffe_gn``, ``decode_fcos_r50_caffe_gn``, ...)."""
    path = folder()
    spec = importlib.util.spec_from_file_location("detcore_golden_formula", path / "formula.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}/formula.py cannot be loaded")
    formula = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formula)
    with np.load(path / f"{name}.npz") as arrays:
        return Case(name, json.loads((path / f"{name}.json").read_text()), dict(arrays), formula)


def rename(*rules: tuple[str, str]) -> Callable[[str], str]:
    """A name map of regular expressions, each replaced where it occurs, one after the other."""

    def reference_name(ours: str) -> str:
        return renamed(ours, rules)

    return reference_name


class Given(HeadNetwork):
    """A head network that answers with the maps it was given: decoding in isolation."""

    def __init__(self, raw: Mapping[str, Sequence[Tensor]]) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, features: Features) -> Mapping[str, Sequence[Tensor]]:
        return self.raw


@attrs.frozen(eq=False)
class Case:
    """A golden case.

    Attributes:
        name: Its name.
        info: What ``NAME.json`` holds: ``model``, ``state_dict``, ``trainable``; of a decode case the test settings.
        arrays: What ``NAME.npz`` holds.
        formula: The module of inputs, ``formula.py``.
    """

    name: str
    info: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    formula: Any

    # ------------------------------------------------------------------------------------------------- what goes in

    def batch(self) -> Batch:
        """The two images with their ground truth; detections are scaled to original pixels by ``scale``."""
        formula, images = self.formula, torch.from_numpy(self.formula.images())
        count = len(images)
        boxes = [torch.tensor(each, dtype=torch.float32) for each in formula.BOXES]
        labels = [torch.tensor(each, dtype=torch.int64) for each in formula.LABELS]
        valid = nn.utils.rnn.pad_sequence(
            [torch.ones_like(each, dtype=torch.bool) for each in labels], batch_first=True
        )
        targets = Targets(
            boxes=nn.utils.rnn.pad_sequence(boxes, batch_first=True),
            labels=nn.utils.rnn.pad_sequence(labels, batch_first=True),
            valid=valid,
            crowd=torch.zeros_like(valid),
            masks=[torch.from_numpy(formula.masks(image)) for image in range(count)],
        )
        return Batch(
            images=images,
            sizes=torch.tensor(formula.IMAGE_SIZES, dtype=torch.float32),
            padded=torch.tensor([(formula.HEIGHT, formula.WIDTH)] * count, dtype=torch.float32),
            scale=torch.full((count, 2), formula.ORIGINAL_SCALE),
            ids=list(range(count)),
            targets=targets,
        )

    def given(self) -> list[list[Tensor]]:
        """The constructed raw maps of a decode case: per output (classes, boxes, ...) its levels."""
        found = [tuple(map(int, key.split(".")[1:])) for key in self.arrays if key.startswith("in.")]
        levels = Counter(output for output, _ in found)
        return [
            [torch.from_numpy(self.arrays[f"in.{output}.{level}"]) for level in range(levels[output])]
            for output in sorted(levels)
        ]

    def fill(
        self, module: nn.Module, reference_name: Callable[[str], str | None], absent: Iterable[str] = ()
    ) -> dict[str, str]:
        """Give every tensor of ``module`` the reference's value.

        Args:
            module: Its state_dict and the reference's are matched one to one, with equal shapes.
            reference_name: Our name -> the reference's; None for a buffer that only we have and that is not filled.
            absent: Buffers of the reference, none of them filled, that we do not have.

        Returns:
            Our name -> the reference's.
        """
        state = module.state_dict()
        names = {ours: name for ours in state if (name := reference_name(ours)) is not None}
        _raise_all(self._misfits(state, names, set(absent)))
        parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        filled = [ours for ours in state if ours in parameters or ours.endswith(FILLED)]
        _raise_all(f"{ours}: is ours alone, yet a parameter or statistic" for ours in filled if ours not in names)
        with torch.no_grad():
            for ours in filled:
                state[ours].copy_(torch.from_numpy(self.formula.weight(names[ours], tuple(state[ours].shape))))
        return names

    def _misfits(self, state: Mapping[str, Tensor], names: Mapping[str, str], absent: set[str]) -> list[str]:
        shapes = {name: tuple(shape) for name, shape in self.info["state_dict"]}
        problems = [f"{name}: stands for several of ours" for name, n in Counter(names.values()).items() if n > 1]
        for ours, name in names.items():
            if name not in shapes:
                problems.append(f"{ours} -> {name}: not in the reference")
            elif shapes[name] != tuple(state[ours].shape):
                problems.append(f"{ours} {tuple(state[ours].shape)} -> {name} {shapes[name]}: other shape")
        missing = set(shapes) - set(names.values())
        problems += [f"{name}: the reference has it, we do not" for name in sorted(missing - absent)]
        problems += [f"{name}: declared absent, is not" for name in sorted(absent - missing)]
        return problems + [f"{name}: has a value, cannot be absent" for name in sorted(absent) if name.endswith(FILLED)]

    def translated(self, folder: Path, **replaced: Any) -> tuple[Any, Translated]:
        """The case's model as a user of the reference brings it: its table -> TOML -> our config -> a detector, unfilled.

        Args:
            folder: Where the TOML goes.
            replaced: Keys of the table that are otherwise.
        """
        found = translate({**self.info["model"], **replaced})
        _raise_all(map(str, [*found.lost, *found.notes]))
        path = folder / f"{self.name}.toml"
        classes = [f"class{number}" for number in range(found.num_classes or 0)]
        path.write_text(f"classes = {spell(classes)}\nmodel = {spell(found.model, loadable=True)}\n")
        config, catalog = assemble.load(str(path))
        return plan(config, catalog, Recipe).build("model", assemble.class_flow(config, classes)), found

    def fill_translated(self, module: nn.Module, found: Translated) -> dict[str, str]:
        """As :meth:`fill`, by the names that the translation knows."""
        dropped = [name for name, _ in self.info["state_dict"] if found.part.dropped(name)]
        return self.fill(module, found.part.foreign_name, dropped)

    def head(self, folder: Path, given: Mapping[str, Sequence[Tensor]]) -> Any:
        """The dense head of the case that this decode case belongs to, with its test settings, for maps that are given.

        Args:
            folder: As for :meth:`translated`.
            given: What the network answers with, e.g. maps of :meth:`given` by their names here.
        """
        detector, _ = load(self.name.removeprefix("decode_")).translated(folder, test_cfg=self.info)
        detector.head.network = Given(given)
        return detector.head

    # ------------------------------------------------------------------------------------------------- what comes out

    def check_dense(self, detector: Any, raw: Sequence[str]) -> None:
        """Features, raw maps and detections of a one-stage detector with a composed head, in eval mode.

        Args:
            detector: Filled.
            raw: The names of the raw maps, in the reference's order.
        """
        batch = self.batch()
        detector.eval()
        with torch.no_grad():
            features = detector.neck(detector.backbone(batch.images))
            predictions = detector.head(features, batch)
            self.check_maps("feats", list(features))
            self.check_maps("raw", [predictions.raw[name] for name in raw])
            self.check_detections(detector.head.detections(predictions, batch))

    def check_decoding(self, head: Any) -> None:
        """Detections of what :meth:`head` gave."""
        batch = self.batch()
        self.check_detections(head.detections(head(head.network.raw["cls"], batch), batch))

    def check_maps(self, prefix: str, maps: Nested, tolerance: float = 1e-4) -> None:
        """All tensors of ``maps`` against ``prefix.KEY``, nesting in the key; both must have the same keys."""
        ours = dict(_flatten(prefix, maps))
        theirs = {key.split("|")[0] for key in self.arrays if key.startswith(f"{prefix}.")}
        problems = [f"{key}: the reference has it, we do not" for key in sorted(theirs - set(ours))]
        problems += [f"{key}: not in the reference" for key in sorted(set(ours) - theirs)]
        for key in sorted(theirs & set(ours)):
            problems += self._map_problems(key, ours[key].detach().cpu(), tolerance)
        _raise_all(problems)

    def order(self, rows: Mapping[str, Tensor], scores: Sequence[Tensor]) -> Tensor:
        """Which of our regions stands at each of the reference's places: two with equal scores may be swapped.

        Args:
            rows: Tensors (R, ...) by the reference's key; where all of them are as there, a region is the same.
            scores: Per image those of its proposals, best first; a region keeps to its image.

        Returns:
            (R,) numbers of our rows; one that is nowhere the same takes a place that is left.
        """
        image = torch.arange(len(scores)).repeat_interleave(torch.tensor([len(each) for each in scores]))
        score = torch.cat([*scores]).cpu()
        alike = (image[:, None] == image) & ((score[:, None] - score).abs() < SWAPPED)
        for key, ours in rows.items():
            theirs = torch.from_numpy(self.arrays[key]).flatten(1)
            if theirs.shape == (len(score), ours[0].numel()):
                distance = (ours.detach().cpu().flatten(1) - theirs[:, None]).abs().amax(2)
                alike &= distance <= 1e-4 * theirs.abs().max()
        found = _married(alike)
        left = iter(sorted({*range(len(score))} - {*found.values()}))
        return torch.tensor([found[place] if place in found else next(left) for place in range(len(score))])

    def check_losses(self, losses: Losses, names: Mapping[str, str], tolerance: float = 1e-4) -> None:
        """Each loss and their sum.

        Args:
            losses: What the detector gave in train mode.
            names: Our name -> the reference's; every term of either side that counts as a loss must be in it.
        """
        reference = {key.removeprefix("loss."): float(v) for key, v in self.arrays.items() if key.startswith("loss.")}
        problems = [f"{name}: not among our losses" for name in names if name not in losses]
        problems += [f"{name}: not mapped" for name in losses if "loss" in name and name not in names]
        problems += [f"{name}: not in the reference" for name in names.values() if name not in reference]
        problems += [
            f"{name}: of the reference, not mapped"
            for name in reference
            if "loss" in name and name not in names.values()
        ]
        problems += [f"{name}: stands for several of ours" for name, n in Counter(names.values()).items() if n > 1]
        _raise_all(problems)
        pairs = {ours: (float(losses[ours].detach()), reference[theirs]) for ours, theirs in names.items()}
        pairs["the sum of losses"] = float(total_loss(losses).detach()), float(self.arrays["loss"])
        _raise_all(_relative_problems(pairs, tolerance))

    def check_training(
        self, detector: Detector, names: Mapping[str, str], losses: Mapping[str, str], *, curve: bool = True
    ) -> None:
        """One backward pass, then six steps of SGD, from the weights that :meth:`fill` gave.

        Args:
            detector: Filled; its weights change.
            names: What :meth:`fill` returned.
            losses: As for :meth:`check_losses`.
            curve: Whether to take the six steps.
        """
        batch = self.batch()
        detector.train()
        detector.zero_grad()
        found = detector.losses(batch)
        total_loss(found).backward()
        self.check_losses(found, losses)
        self.check_gradients(detector, names)
        if curve:
            self.check_curve(detector, batch)

    def check_gradients(self, module: nn.Module, names: Mapping[str, str], tolerance: float = 1e-4) -> None:
        """The L2 norm of each trainable parameter's gradient (none counts as 0; ten times the tolerance), and of all."""
        norms = {
            names[ours]: 0.0 if parameter.grad is None else float(parameter.grad.double().norm())
            for ours, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        trainable = self.info["trainable"]
        problems = [f"{name}: trains in the reference only" for name in trainable if name not in norms]
        problems += [f"{name}: does not train in the reference" for name in norms if name not in set(trainable)]
        _raise_all(problems)
        total = float(self.arrays["grad_norm"])
        pairs = {"grad_norm": (float(np.linalg.norm(list(norms.values()))), total)}
        problems = _relative_problems(pairs, tolerance)
        pairs = {
            name: (norms[name], float(norm)) for name, norm in zip(trainable, self.arrays["grad_norms"], strict=True)
        }
        _raise_all(problems + _relative_problems(pairs, 10 * tolerance, floor=1e-3 * total))

    def check_curve(self, detector: Detector, batch: Batch) -> None:
        """The total loss at each step of SGD; the detector is in train mode and has the first step's buffers."""
        parameters = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.1)
        curve = []
        for _ in self.arrays["curve"]:
            optimizer.zero_grad(set_to_none=False)
            loss = total_loss(detector.losses(batch))
            curve.append(float(loss.detach()))
            loss.backward()
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            norm = float(torch.stack([gradient.double().norm() for gradient in gradients]).norm())
            for gradient in gradients:
                gradient.mul_(min(1.0, 1.0 / (norm + 1e-6)))
            optimizer.step()
        pairs = {
            f"curve[{step}]": pair for step, pair in enumerate(zip(curve, self.arrays["curve"].tolist(), strict=True))
        }
        _raise_all(_relative_problems(pairs, 2e-3))

    def check_detections(self, detections: Sequence[Detections], mask_areas: Sequence[Tensor] | None = None) -> None:
        """Every clear detection has a partner of its own, on both sides.

        Args:
            detections: Per image, in input pixels; they are scaled to original pixels here.
            mask_areas: Per image (D,), pixels of each pasted mask; partners then differ by at most 0.5 % or 4 pixels.
        """
        problems = []
        for image, found in enumerate(detections):
            theirs = [torch.from_numpy(self.arrays[f"pred.{image}.{key}"]) for key in ("boxes", "scores", "labels")]
            ours = [found.boxes.cpu() * self.formula.ORIGINAL_SCALE, found.scores.cpu(), found.labels.cpu()]
            if mask_areas is not None:
                ours.append(mask_areas[image].cpu())
                theirs.append(torch.from_numpy(self.arrays[f"pred.{image}.mask_area"]))
            problems += [f"image {image}: {problem}" for problem in _unlike(ours, theirs)]
        images = sum(key.endswith(".scores") for key in self.arrays)
        problems += [f"{len(detections)} images, not {images}"] if len(detections) != images else []
        _raise_all(problems)

    def _map_problems(self, key: str, ours: Tensor, tolerance: float) -> list[str]:
        sampled = f"{key}|sample" in self.arrays
        shape = tuple(self.arrays[f"{key}|shape"]) if sampled else self.arrays[key].shape
        if tuple(ours.shape) != tuple(shape):
            return [f"{key}: shape {tuple(ours.shape)}, not {tuple(map(int, shape))}"]
        if not sampled:
            return _close(key, ours.double().numpy(), self.arrays[key], tolerance)
        norm = float(self.arrays[f"{key}|norm"])
        problems = _relative_problems({f"{key}|norm": (float(ours.double().norm()), norm)}, tolerance)
        where = np.random.default_rng(zlib.crc32(key.encode())).integers(0, ours.numel(), 1024)
        return problems + _close(key, ours.double().flatten().numpy()[where], self.arrays[f"{key}|sample"], tolerance)


def _flatten(key: str, value: Nested) -> Iterable[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield key, value
        return
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, each in items:
        yield from _flatten(f"{key}.{name}", each)


def _close(key: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> list[str]:
    if not theirs.size:
        return []
    difference, largest = np.abs(ours - theirs), np.abs(theirs).max()
    if np.all(difference <= tolerance * largest):  # NaN is not <= anything
        return []
    return [f"{key}: differs by {difference.max():.3g}, of a largest value of {largest:.3g}"]


def _relative_problems(pairs: Mapping[str, tuple[float, float]], tolerance: float, floor: float = 0.0) -> list[str]:
    return [
        f"{name}: {ours:.8g}, not {theirs:.8g}"
        for name, (ours, theirs) in pairs.items()
        if not abs(ours - theirs) <= tolerance * max(abs(theirs), floor)
    ]


def _unlike(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[str]:
    if not all(torch.isfinite(each).all() for each in ours):
        return ["detections that are not finite"]
    alike = (ours[2][:, None] == theirs[2]) & ((ours[1][:, None] - theirs[1]).abs() <= 1e-4)
    alike &= ((ours[0][:, None] - theirs[0]).abs() <= 0.05).all(-1)
    if len(ours) > 3:
        alike &= (ours[3][:, None] - theirs[3]).abs() <= (theirs[3] * 0.005).clamp(min=4)
    return _lonely("the reference's", alike.T, theirs) + _lonely("our", alike, ours)


def _lonely(whose: str, alike: Tensor, detections: Sequence[Tensor]) -> list[str]:
    """The clear rows of ``alike`` that get no column of their own in the largest matching."""
    boxes, scores, labels = detections[:3]
    clear = (scores >= scores.min() + 1e-3).nonzero().flatten().tolist() if len(scores) else []
    married = _married(alike[clear])
    alone = [row for number, row in enumerate(clear) if number not in married]
    return [
        f"{whose} detection {row} (label {int(labels[row])}, score {float(scores[row]):.5f}, "
        f"box {[round(v, 2) for v in boxes[row].tolist()]}) has no partner"
        for row in alone
    ]


def _married(alike: Tensor) -> dict[int, int]:
    """Row -> column of a largest matching of (N, M) bool; each row's first choice where it costs nobody a partner."""
    partners = [row.nonzero().flatten().tolist() for row in alike]
    taken: dict[int, int] = {}

    def marry(row: int, asked: set[int]) -> bool:
        for column in partners[row]:
            if column not in asked:
                asked.add(column)
                if column not in taken or marry(taken[column], asked):
                    taken[column] = row
                    return True
        return False

    for row in range(len(partners)):
        marry(row, set())
    return {row: column for column, row in taken.items()}


def _raise_all(problems: Iterable[str]) -> None:
    problems = list(problems)
    if problems:
        more = f"\n... and {len(problems) - 30} more" if len(problems) > 30 else ""
        raise AssertionError("\n".join(problems[:30]) + more)
