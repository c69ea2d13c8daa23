"""Weight Standardization (Qiao et al. 2019), section 3."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5


class ConvWS(nn.Conv2d):
    """A convolution whose kernels have mean 0 and standard deviation 1, whatever the weights; goes with ``GN``."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W')."""
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        std = self.weight.std(dim=(1, 2, 3), keepdim=True)
        weight = weight / (std + EPS)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
