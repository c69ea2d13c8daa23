"""A stage of a ResNet on regions (Ren et al. 2017, Object Detection Networks on Convolutional Feature Maps; "C4").

Features are taken before the last stage; that stage sees each region by itself (He et al. 2016, Deep Residual Learning,
appendix A), and in front of it there is no pyramid.
"""

from __future__ import annotations

from typing import Any

from detcore.errors import ConfigError
from detcore.interfaces import Container, Factory, Features, Norm, RoIExtractor
from detcore.layers import BN
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from detcore_resnet.resnet import DEPTHS, Bottleneck, Style, make_stage


class ResNetStageExtractor(Container, RoIExtractor):
    """What another extractor cuts out, seen by the next stage of a ResNet: twice the channels, half the side.

    Parameters are named as in torchvision (``layer4`` where ``stage`` is 3), so that weights of a whole ResNet fit.

    Args:
        extractor: Cuts regions out of the map of the stage before.
        depth: Of the ResNet: 18, 34, 50, 101 or 152.
        stage: Which stage it is, from 0; it decides how many blocks there are.
        stride: Of the first block.
        dilation: Of the 3x3 convolutions.
        style: A bottleneck's stride is on its 3x3 ("pytorch") or first 1x1 convolution ("caffe").
        norm: Builds the norms.
        norm_eval: Batch normalisation keeps its running statistics while training.

    Raises:
        ConfigError: A depth or a stage that is not there.
    """

    def __init__(
        self,
        *,
        extractor: RoIExtractor,
        depth: int = 50,
        stage: int = 3,
        stride: PositiveInt = 2,
        dilation: PositiveInt = 1,
        style: Style = "pytorch",
        norm: Factory[Norm] = BN,  # type: ignore[assignment]
        norm_eval: bool = True,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ConfigError("depth", f"there is no ResNet-{depth}", f"Depths are {', '.join(map(str, DEPTHS))}.")
        if stage not in (1, 2, 3):
            raise ConfigError("stage", f"{stage}", "Give 1, 2 or 3: there is one before it.")
        block, blocks = DEPTHS[depth]
        channels = extractor.out_channels * 2 // block.expansion
        options: dict[str, Any] = {"style": style} if block is Bottleneck else {}
        layer = make_stage(
            block,
            extractor.out_channels,
            channels,
            blocks[stage],
            stride=stride,
            dilation=dilation,
            norm=norm,
            **options,
        )
        self.extractor = extractor
        self.add_module(f"layer{stage + 1}", layer)
        self.stage = stage
        self.norm_eval = norm_eval
        self.out_channels = channels * block.expansion
        self.roi_size = -(-extractor.roi_size // stride)
        self.train()

    def forward(self, features: Features, rois: Tensor, scale: float = 1.0) -> Tensor:
        """L maps (B, C, H_l, W_l) and RoIs (R, 5) -> (R, 2 C, S / stride, S / stride), rounded up."""
        found: Tensor = self.get_submodule(f"layer{self.stage + 1}")(self.extractor(features, rois, scale))
        return found

    def train(self, mode: bool = True) -> ResNetStageExtractor:
        """As any module, except that with ``norm_eval`` statistics stay as they are."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
