"""Any classification model of torchvision that computes a pyramid, as a backbone.

No table says where a model's maps are. A small image goes through it once, and what each module returns tells where the
stride changes: the map of a stride is the last one before the next change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import torch
import torchvision
from detcore.data import seeded
from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Features
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.feature_extraction import create_feature_extractor

NAMES = frozenset(torchvision.models.list_models(module=torchvision.models))
SMALLEST_STRIDE = 4
"""Maps of smaller strides are numbered, but returned only when ``out_indices`` asks for them."""


@attrs.frozen
class Level:
    """A map of a model: the module that returns it, its channels, its stride, and whether channels come last."""

    name: str
    channels: int
    stride: int
    channels_last: bool


class TorchvisionBackbone(Backbone):
    """A model of torchvision without its classifier; :mod:`detcore_torchvision_models.backbones` has one subclass each.

    Images whose sides are no multiples of the deepest stride are padded at the bottom and right, and maps cut back to
    the sides of the image divided by the stride, rounded up, so that every model keeps to one rule.

    Args:
        out_indices: Which maps are returned, rising: 0 is the map of the model's smallest stride, usually 2, then each
            next stride; negative counts from the deepest. None: all of stride 4 and more.
        pretrained: Download torchvision's weights (or take them from its cache); nothing is downloaded without it.
        frozen: Nothing of the model trains.
        norm_eval: Batch normalisation keeps its running statistics while training.
        options: Further arguments of the model's function, such as ``stochastic_depth_prob`` or ``input_size``.

    Raises:
        ConfigError: torchvision cannot make the model so, or it has no maps that lie on the image.
    """

    model_name: ClassVar[str]

    def __init__(
        self,
        *,
        out_indices: Sequence[int] | None = None,
        pretrained: bool = False,
        frozen: bool = False,
        norm_eval: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.frozen = frozen
        self.norm_eval = norm_eval
        self._made_of = {"out_indices": out_indices, "frozen": frozen, "norm_eval": norm_eval, "options": options}
        model = self._create(pretrained, dict(options or {}))
        self.levels = self._choose(self._find(model, (options or {}).get("input_size")), out_indices)
        self.out_channels = tuple(level.channels for level in self.levels)
        self.strides = tuple(level.stride for level in self.levels)
        nodes = {level.name: level.name for level in self.levels}
        self.model = create_feature_extractor(model, nodes, suppress_diff_warning=True)
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> L maps (B, C_l, H_l, W_l), sides divided by the stride, rounded up."""
        height, width = images.shape[-2:]
        deepest = self.strides[-1]
        if height % deepest or width % deepest:
            images = F.pad(images, (0, -width % deepest, 0, -height % deepest))
        maps = self.model(images)
        return [
            (maps[level.name].permute(0, 3, 1, 2) if level.channels_last else maps[level.name])[
                :, :, : -(-height // level.stride), : -(-width // level.stride)
            ]
            for level in self.levels
        ]

    def train(self, mode: bool = True) -> TorchvisionBackbone:
        """As any module, except that what is frozen and, with ``norm_eval``, statistics stay as they are."""
        super().train(mode and not self.frozen)
        if self.frozen:
            self.requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def __reduce__(self) -> Any:
        """Pickled as what it is made of: pickle goes from node to node of a graph, too deep where it is a long one."""
        trained = [each.requires_grad for each in self.parameters()]
        return _made_again, (type(self), self._made_of, self.state_dict(), trained, self.training)

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchvisionBackbone:
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def _create(self, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
        if "weights" in options:
            raise ConfigError("options", "weights cannot be given here", "Give pretrained = true beside options.")
        try:
            model: nn.Module = torchvision.models.get_model(
                self.model_name, weights="DEFAULT" if pretrained else None, **options
            )
        except Exception as error:
            raise ConfigError(
                "", f"torchvision {torchvision.__version__} cannot make {self.model_name}: {one_line(error)}"
            ) from error
        return model

    def _find(self, model: nn.Module, size: Sequence[int] | None) -> Sequence[Level]:
        try:
            levels = find_levels(model, (64, 96) if size is None else (size[0], size[1]))
        except Exception as error:
            found = f"a small image does not pass: {one_line(error)}"
            fix = "If it is made for one size, give that: options = {input_size = [448, 448]}."
            raise ConfigError("options", found, fix) from error
        if not levels:
            raise ConfigError(
                "", f"{self.model_name} has no maps that lie on the image: no pyramid", "Choose another model."
            )
        return levels

    def _choose(self, levels: Sequence[Level], out_indices: Sequence[int] | None) -> Sequence[Level]:
        if out_indices is None:
            return [level for level in levels if level.stride >= SMALLEST_STRIDE]
        count = len(levels)
        indices = [index + count if index < 0 else index for index in out_indices]
        if not indices or indices != sorted({*indices}) or indices[0] < 0 or indices[-1] >= count:
            strides = ", ".join(str(level.stride) for level in levels)
            fix = f"Give rising numbers from 0 to {count - 1}, for the strides {strides}."
            raise ConfigError("out_indices", f"{list(out_indices)}", fix)
        return [levels[index] for index in indices]


def _made_again(
    kind: type[TorchvisionBackbone],
    made_of: Mapping[str, Any],
    state: Mapping[str, Tensor],
    trained: Sequence[bool],
    training: bool,
) -> TorchvisionBackbone:
    with seeded(0):  # what it draws is thrown away
        model = kind(**made_of)
    model.load_state_dict(state, assign=True)
    for parameter, trains in zip(model.parameters(), trained, strict=True):
        parameter.requires_grad_(trains)
    return model.train(training)


def find_levels(model: nn.Module, size: tuple[int, int]) -> Sequence[Level]:
    """The last map of each stride, shallow to deep; empty where the model turns its maps into tokens.

    Args:
        model: Called once with one image, in eval mode; left in the mode it was in.
        size: Height and width of that image, multiples of the deepest stride.
    """
    shapes = _output_shapes(model, size)
    last: dict[int, Level] = {}
    for name in _steps("", 1, shapes, size):
        level = _level(name, shapes[name], size)
        if level is None:
            if len(shapes[name]) == 3:
                return []
            break
        last[level.stride] = level
    return list(last.values())


def _output_shapes(model: nn.Module, size: tuple[int, int]) -> Mapping[str, Sequence[int]]:
    """The shape of what each module returns, in the order in which they return; those without a tensor left out."""
    shapes: dict[str, Sequence[int]] = {}

    def hook_of(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes.setdefault(name, tuple(output.shape))

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in model.named_modules() if name]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(next(model.parameters()).new_zeros(1, 3, *size))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return shapes


def _steps(parent: str, stride: int, shapes: Mapping[str, Sequence[int]], size: tuple[int, int]) -> Iterator[str]:
    """The modules that follow each other: those inside of ``parent``, opened where they change the stride twice."""
    for name in [each for each in shapes if _caller(each, shapes) == parent]:
        level = _level(name, shapes[name], size)
        deeper = level is not None and level.stride > 2 * stride
        if deeper and any(_caller(each, shapes) == name for each in shapes):
            yield from _steps(name, stride, shapes, size)
        else:
            yield name
        stride = stride if level is None else level.stride


def _caller(name: str, shapes: Mapping[str, Sequence[int]]) -> str:
    """The nearest module around ``name`` that is called; the model itself is the empty string."""
    while name:
        name = name.rpartition(".")[0]
        if name in shapes:
            return name
    return ""


def _level(name: str, shape: Sequence[int], size: tuple[int, int]) -> Level | None:
    """The level of a map (1, C, H, W) or (1, H, W, C) that lies on the image; None of anything else."""
    if len(shape) != 4:
        return None
    for channels_last, channels, sides in ((False, shape[1], shape[2:]), (True, shape[3], shape[1:3])):
        stride = size[0] // sides[0]
        if tuple(side * stride for side in sides) == size:
            return Level(name, channels, stride, channels_last)
    return None


def one_line(error: BaseException) -> str:
    """The kind of an exception and what it says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
