"""docs/modes.md says what of torch works with which detector; here each cell of its table is tried."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import detcore
import pytest
import torch
from contracts import tiny_detectors
from contracts.tiny_detectors import DETECTORS, detector
from detcore import run
from detcore.data import seeded
from detcore.structures import Batch, Detections, Losses, total_loss
from detcore_roi.extractor import SingleLevelRoIExtractor
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "modes.md"
SIZES = ((160, 192), (192, 160), (224, 256), (160, 224), (256, 192), (224, 224))
MOST_GRAPHS = 8
"""Of detectors of boxes."""


@attrs.frozen
class Claim:
    """What the table says of a detector.

    Attributes:
        bf16: A loss under bfloat16 differs from float32's by at most so much of itself.
        graphs: So many graphs are compiled at most, for steps of images of all sizes.
        whole: Why a step is more than one graph; None: it is one.
        waits: Why a step waits for the device; None: it does not.
    """

    bf16: float
    graphs: int = 2
    whole: str | None = None
    waits: str | None = None


REGIONS = "[1]"
CLAIMS = {
    "RetinaNet": Claim(bf16=0.01),
    "RetinaNet, GHM": Claim(bf16=0.01),
    "FCOS": Claim(bf16=0.01),
    "ATSS": Claim(bf16=0.01),
    "YOLOX": Claim(bf16=0.1, graphs=3),
    "YOLOv3": Claim(bf16=0.02),
    "CornerNet": Claim(bf16=0.05),
    "CentripetalNet": Claim(bf16=0.01),
    "Faster R-CNN": Claim(bf16=0.05, graphs=6, whole=REGIONS, waits=REGIONS),
    "Mask R-CNN": Claim(bf16=0.1, graphs=12, whole=REGIONS, waits=REGIONS),
}

Make = Callable[[str], Any]


def all_but_slow(*quick: str) -> list[Any]:
    """Every detector; those that are not ``quick`` are for the session of slow tests."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow, id=name) for name in CLAIMS]


every = pytest.mark.parametrize("name", CLAIMS)
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda name: detector(name, tmp_path)


@pytest.fixture
def compiler() -> Iterator[CompileCounterWithBackend]:
    """Traces forward and backward passes and counts the graphs, but generates no code: that would take minutes."""
    torch._dynamo.reset()
    yield CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()


# ---------------------------------------------------------------------------------------------------------- the page


def table(claims: Mapping[str, Claim]) -> str:
    """The table of docs/modes.md."""
    rows = [
        "| detector | bf16: a loss differs by | channels_last | compiled step | graphs of all sizes | export: raw maps "
        "| export: detections | never waits for the GPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, claim in claims.items():
        step = "one graph" if claim.whole is None else f"in parts {claim.whole}"
        free = "yes" if claim.waits is None else f"no {claim.waits}"
        most = f"at most {claim.bf16:.0%}"
        rows.append(f"| {name} | {most} | yes | {step} | {claim.graphs} | yes [2] | yes [3] | {free} |")
    return "\n".join(rows)


def test_the_page_shows_what_is_tested_here() -> None:
    assert set(CLAIMS) == set(DETECTORS)
    assert all(claim.graphs <= MOST_GRAPHS for name, claim in CLAIMS.items() if "Mask" not in name)
    assert table(CLAIMS) in PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code that the page shows."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_what_the_page_configures_lies_over_a_recipe(tmp_path: Path) -> None:
    (block,), mine = blocks("toml"), tmp_path / "mine.toml"
    mine.write_text(f'_base_ = "{(ROOT / "configs" / "quickstart.toml").as_posix()}"\n{block}')
    assert run.check(str(mine)) == [f"{mine}: no problem found"]


def test_the_programs_that_the_page_saves_find_the_same(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("FCOS").eval()
    monkeypatch.setattr(detcore, "load_detector", lambda *_, **__: SimpleNamespace(detector=model))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), names)  # the page is ours
    with torch.no_grad():
        wanted = Found(model)(names["images"], names["sizes"])[0]
        maps = torch.export.load(tmp_path / "maps.pt2").module()(names["images"])
        torch.testing.assert_close(maps, names["Maps"]()(names["images"]), rtol=1e-4, atol=1e-4)
    assert len(names["boxes"]) > 5
    torch.testing.assert_close([names["boxes"], names["scores"], names["labels"]], wanted, rtol=1e-4, atol=1e-4)


# ----------------------------------------------------------------------------------------------------------- helpers


def batch(name: str, height: int, width: int, **options: int) -> Batch:
    """A batch for the detector ``name``."""
    return tiny_detectors.batch(height, width, masks="Mask" in name, **options)


def step(model: Any, given: Batch, call: Any = None) -> Losses:
    """The losses of one step, which leaves its gradients in ``model``; equal random numbers each time."""
    model.zero_grad()
    with seeded(5):
        losses: Losses = (model if call is None else call)(given, mode="losses")
    total_loss(losses).backward()
    return {name: value.detach().cpu() for name, value in losses.items()}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.grad.cpu() for name, each in model.named_parameters() if each.grad is not None}


def difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], floor: float = 1e-3) -> float:
    """The largest difference of any entry, relative to that entry's largest number."""
    assert found.keys() == wanted.keys()
    return max(
        float((found[name] - wanted[name]).abs().max() / wanted[name].abs().max().clamp(min=floor)) for name in wanted
    )


def partnered(found: Sequence[Detections], wanted: Sequence[Detections], tolerance: float) -> float:
    """The share of detections, of both sides, that the other side has, too; scores and places to ``tolerance``."""
    shares = []
    for ours, theirs in zip(found, wanted, strict=True):
        side = float(theirs.boxes.max()) if len(theirs) else 1.0
        near = (ours.boxes[:, None] - theirs.boxes).abs().amax(-1) <= tolerance * side
        near &= (ours.scores[:, None] - theirs.scores).abs() <= tolerance
        near &= ours.labels[:, None] == theirs.labels
        shares += [near.any(1).float(), near.any(0).float()]
    return float(torch.cat(shares).mean())


class Raw(nn.Module):
    """Images -> the raw maps of a detector."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.model.neck(self.model.backbone(images))
        head = self.model.rpn_head if hasattr(self.model, "rpn_head") else self.model.head
        return tree_leaves(head.network(features) if hasattr(head, "network") else head(features, None))


class Found(nn.Module):
    """Images, their heights and widths -> boxes, scores, labels and perhaps masks of each."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, sizes: Tensor) -> list[list[Tensor]]:
        found = self.model.detections(Batch(images, sizes, sizes, torch.ones_like(sizes)))
        fields = [(each.boxes, each.scores, each.labels, each.masks) for each in found]
        return [[field for field in each if field is not None] for each in fields]


# ------------------------------------------------------------------------------------------------- mixed precision


@every
def test_training_under_bfloat16_is_near_that_in_float32(name: str, make: Make) -> None:
    model, given = make(name).train(), batch(name, 96, 128)
    wanted = step(copy.deepcopy(model), given)
    with torch.autocast("cpu", torch.bfloat16):
        found = step(model, given)
    assert {value.dtype for key, value in found.items() if "loss" in key} == {torch.float32}
    near, true = ({key: value for key, value in each.items() if "loss" in key} for each in (found, wanted))
    assert difference(near, true) <= CLAIMS[name].bf16
    assert gradients(model).keys() == {key for key, each in model.named_parameters() if each.requires_grad}
    assert all(each.isfinite().all() for each in gradients(model).values())


# --------------------------------------------------------------------------------------------------- memory layout


@every
def test_channels_last_gives_the_same_losses_and_detections(name: str, make: Make) -> None:
    model, given = make(name), batch(name, 96, 128)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    across = attrs.evolve(given, images=given.images.contiguous(memory_format=torch.channels_last))
    assert difference(step(other.train(), across), step(model.train(), given)) <= 1e-4
    found, wanted = other.eval().detections(across), model.eval().detections(given)
    assert all(len(each) > 5 for each in wanted)
    assert [len(each) for each in found] == [len(each) for each in wanted]
    assert partnered(found, wanted, 1e-4) == 1


# --------------------------------------------------------------------------------------------------------- compiled


def few_graphs(name: str, make: Make, compiler: CompileCounterWithBackend) -> None:
    """Batches differ in size, number of objects, names and progress, as those of a run do."""
    claim, eager = CLAIMS[name], make(name).train()
    model = copy.deepcopy(eager)
    call = torch.compile(model, backend=compiler, fullgraph=claim.whole is None)
    for number, size in enumerate(SIZES * 2):
        if number == len(SIZES):
            graphs = compiler.frame_count
        given = batch(name, *size, objects=2 + number % 5, number=number)
        found, wanted = step(model, given, call), step(eager, given)
        assert difference(found, wanted) <= 1e-4
        assert difference(gradients(model), gradients(eager), floor=1e-2) <= 1e-3
    assert compiler.frame_count == graphs  # the second epoch compiles nothing
    assert 1 <= graphs <= claim.graphs


@pytest.mark.parametrize("name", all_but_slow())
def test_steps_of_mixed_sizes_compile_into_few_graphs(
    name: str, make: Make, compiler: CompileCounterWithBackend
) -> None:
    few_graphs(name, make, compiler)


def test_forward_passes_of_mixed_sizes_compile_into_few_graphs(make: Make) -> None:
    """The quick part of the test above: backward passes are not traced, but eager's."""
    torch._dynamo.reset()
    few_graphs("FCOS", make, CompileCounterWithBackend("eager"))
    torch._dynamo.reset()


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.whole])
def test_a_step_in_parts_is_not_one_graph(name: str, make: Make, compiler: CompileCounterWithBackend) -> None:
    model = make(name).train()
    with pytest.raises(Unsupported, match=r"ComposedHead\.detections"):
        torch.compile(model, backend=compiler, fullgraph=True)(batch(name, *SIZES[0]), mode="losses")


@pytest.mark.parametrize("name", all_but_slow())
def test_a_compiled_detector_finds_the_same(name: str, make: Make, compiler: CompileCounterWithBackend) -> None:
    """What a network says is compiled, what is made of it is not: how many detections there are depends on values."""
    model, given = make(name).eval(), batch(name, *SIZES[0])
    with torch.no_grad():
        found, wanted = torch.compile(model, backend=compiler)(given, mode="detections"), model.detections(given)
    assert compiler.frame_count >= 1
    assert partnered(found, wanted, 1e-4) == 1


@pytest.mark.slow
def test_generated_code_computes_the_same(make: Make) -> None:
    eager, given = make("FCOS").train(), batch("FCOS", *SIZES[0])
    model = copy.deepcopy(eager)
    torch._dynamo.reset()
    assert difference(step(model, given, torch.compile(model)), step(eager, given)) <= 1e-4
    assert difference(gradients(model), gradients(eager), floor=1e-2) <= 1e-3
    torch._dynamo.reset()


# --------------------------------------------------------------------------------------------------------- exported


@pytest.mark.parametrize("name", all_but_slow("FCOS", "CornerNet", "Faster R-CNN"))
def test_raw_maps_are_exported_for_all_sizes(name: str, make: Make) -> None:
    model = Raw(make(name)).eval()
    sizes = {"images": {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    with torch.no_grad():
        program = torch.export.export(model, (batch(name, 256, 256).images,), dynamic_shapes=sizes).module()
        images = batch(name, 320, 288, images=3).images
        torch.testing.assert_close(program(images), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", all_but_slow("FCOS"))
def test_detections_are_exported_for_one_size(name: str, make: Make) -> None:
    model, given, other = Found(make(name)).eval(), batch(name, 96, 128), batch(name, 96, 128, number=1)
    with torch.no_grad():
        program = torch.export.export(model, (given.images, given.sizes)).module()
        found, wanted = (each(other.images, other.sizes) for each in (program, model))
        assert all(len(each[0]) > 5 for each in wanted)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        with pytest.raises((RuntimeError, AssertionError), match="size"):
            program(*(batch(name, 96, 160).images, other.sizes))


def test_exported_detections_may_be_none(make: Make) -> None:
    """torchvision tells exporters that NMS keeps two boxes at least."""
    model, given = make("FCOS").eval(), batch("FCOS", 96, 128)
    model.head.decoder.settings = attrs.evolve(model.head.decoder.settings, score_threshold=1.0)
    with torch.no_grad():
        program = torch.export.export(Found(model), (given.images, given.sizes)).module()
        assert [len(each[0]) for each in program(given.images, given.sizes)] == [0, 0]


# ------------------------------------------------------------------------------------------- waiting for the device


class Waits(TorchDispatchMode):
    """Notes what would wait for an accelerator: reading a number, shapes that depend on values, copies of lists."""

    READING = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "_unique2", "nms", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(each, Tensor) and each.dtype == torch.bool for each in tree_leaves(args[1:2])
        )
        of_list = name == "lift_fresh" and args[0].dim() > 0
        if name in self.READING or by_mask or of_list:
            self.seen.add(name)
        return func(*args, **(kwargs or {}))


@every
def test_a_step_waits_for_nothing_that_a_device_computes(
    name: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, whose own way of cutting regions out is left aside."""
    monkeypatch.setattr(SingleLevelRoIExtractor, "_level_by_level", SingleLevelRoIExtractor._all_from_all)
    model, given = make(name).train(), batch(name, 96, 128)
    model.losses(given)  # priors are made at the first time
    with Waits() as waits, seeded(5):
        model.losses(given)
    assert waits.seen == ({"index", "_unique2", "nms", "nonzero"} if CLAIMS[name].waits else set())


@pytest.mark.parametrize(
    ("waiting", "name"),
    [
        (float, "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x.new_tensor([1.0, 2.0]), "lift_fresh"),
        (lambda x: x.long().bincount(), "bincount"),
    ],
)
def test_waiting_would_be_noticed(waiting: Callable[[Tensor], Any], name: str) -> None:
    """Deliberate faults, so that the test above is known to look."""
    x = torch.ones(3).cumsum(0).sum().expand(1) if waiting is float else torch.ones(3)
    with Waits() as waits:
        waiting(x)
    assert waits.seen == {name}


# ------------------------------------------------------------------------------------------------------------ CUDA


def cuda(given: Batch) -> Batch:
    truth = given.truth
    targets = {name: getattr(truth, name).cuda() for name in ("boxes", "labels", "valid", "crowd")}
    targets["masks"] = truth.masks and [each.cuda() for each in truth.masks]
    rest = {name: getattr(given, name).cuda() for name in ("images", "sizes", "padded", "scale")}
    return attrs.evolve(given, targets=attrs.evolve(truth, **targets), **rest)


@pytest.fixture
def full_float32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def without_chance(model: Any) -> Any:
    """The detector with samplers that take everything: a device has its own random numbers."""
    for each in model.modules():
        if hasattr(each, "sampler"):
            each.sampler = None
    return model


@on_cuda
@every
@pytest.mark.usefixtures("full_float32")
def test_a_gpu_computes_what_the_cpu_computes(name: str, make: Make) -> None:
    model, given = without_chance(make(name)), batch(name, 160, 192)
    other = copy.deepcopy(model).cuda()
    assert difference(step(other.train(), cuda(given)), step(model.train(), given)) <= 1e-3
    with torch.no_grad():
        maps = [Raw(each).eval()(images) for each, images in ((other, given.images.cuda()), (model, given.images))]
        for found, wanted in zip(*maps, strict=True):
            assert float((found.cpu() - wanted).abs().max()) <= 1e-3 * float(wanted.abs().max().clamp(min=1e-3))
        detections = other.detections(cuda(given))
    assert partnered([each.each(Tensor.cpu) for each in detections], model.detections(given), 1e-3) >= 0.95


@on_cuda
@every
def test_losses_do_not_wait_for_the_gpu(name: str, make: Make) -> None:
    model, given = make(name).cuda().train(), cuda(batch(name, 160, 192))
    total_loss(model.losses(given)).backward()  # priors are made at the first time, memory is found
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        if CLAIMS[name].waits:
            with pytest.raises(RuntimeError, match="synchronizing"):
                model.losses(given)
        else:
            total_loss(model.losses(given)).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
