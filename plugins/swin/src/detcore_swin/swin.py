"""Swin Transformer: Hierarchical Vision Transformer using Shifted Windows (Liu et al., ICCV 2021), section 3.

Inside, maps are (B, H, W, C). Parameters are named as in MMDetection 3, so that its checkpoints fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from detcore.errors import ConfigError
from detcore.interfaces import Backbone, Features
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

PATCH = 4
"""Side of a patch in pixels: the first stage's stride."""
APART = -100.0
"""Added to the logit of two positions that are neighbours only because the map was rolled."""


class WindowAttention(nn.Module):
    """Attention of each position to all of its window, with a learned bias per relative position (equation 4).

    Args:
        channels: C.
        heads: How many of them share the channels.
        window: Side of a window, M.
    """

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", _relative_positions(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Windows (N, M * M, C) -> the same shape; ``mask`` (n, M * M, M * M) is added to the logits of n at a time."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.get_buffer("relative_position_index")].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(x) // len(mask), 1, 1, 1)
        out = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))
        mixed: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return mixed


class ShiftedWindows(nn.Module):
    """Attention within windows of the map after it was rolled by ``shift`` (section 3.2, figure 4).

    Args:
        channels: C.
        heads: Of the attention.
        window: Side of a window, M.
        shift: How far windows are shifted down and right.
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.w_msa = WindowAttention(channels, heads, window)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        height, width = x.shape[1:3]
        x = _padded(x, self.window)
        rows, columns = x.shape[1:3]
        mask = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
            mask = self._mask(rows, columns, x)
        x = _join(self.w_msa(_split(x, self.window), mask), self.window, rows, columns)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]

    def _mask(self, height: int, width: int, like: Tensor) -> Tensor:
        """(windows, M * M, M * M): 0 where two positions belong together, else ``APART``."""
        rows, columns = (self._region(side, like) for side in (height, width))
        regions = (3 * rows[:, None] + columns)[None, :, :, None]
        regions = _split(regions, self.window).squeeze(-1)
        return APART * (regions[:, :, None] != regions[:, None, :]).to(like.dtype)

    def _region(self, side: int, like: Tensor) -> Tensor:
        """(side,): 0 before the last window, 1 in it, 2 where the roll has put what was at the other end."""
        at = torch.arange(side, device=like.device)
        return (at >= side - self.window).long() + (at >= side - self.shift)


class MLP(nn.Module):
    """Two linear layers, the hidden one ``ratio`` times as wide."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = nn.Sequential(nn.Linear(channels, ratio * channels), nn.GELU())
        self.layers = nn.Sequential(hidden, nn.Linear(ratio * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        out: Tensor = self.layers(x)
        return out


class SwinBlock(nn.Module):
    """Attention and an MLP, each behind a norm and beside a shortcut (equation 3).

    Args:
        channels: C.
        heads: Of the attention.
        window: Side of a window.
        shift: Of the windows.
        mlp_ratio: Width of the MLP, in C.
        drop_path: Probability that an image takes the shortcut only, while training.
    """

    def __init__(self, channels: int, heads: int, *, window: int, shift: int, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = ShiftedWindows(channels, heads, window, shift)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = MLP(channels, mlp_ratio)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.ffn(self.norm2(x)))
        return out


class PatchEmbedding(nn.Module):
    """Each patch of the image a vector."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, channels, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / 4, W / 4, C), rounded up."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % PATCH, 0, -height % PATCH))
        out: Tensor = self.norm(self.projection(images).permute(0, 2, 3, 1))
        return out


class PatchMerging(nn.Module):
    """Four neighbours joined, reduced to twice the channels; of each channel the four stand side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, 2 * C), rounded up."""
        x = _padded(x, 2)
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 5, 2, 4).flatten(3)
        out: Tensor = self.reduction(self.norm(x))
        return out


class SwinStage(nn.Module):
    """Blocks whose windows are shifted in every second one; ``downsample`` leads to the next stage."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample


class SwinTransformer(Backbone):
    """Patches, then up to four stages of attention in windows, each with half the resolution of the one before.

    Swin-T: channels 96, depths 2, 2, 6, 2. Swin-S: 96 and 2, 2, 18, 2. Swin-B: 128, Swin-L: 192, both 2, 2, 18, 2.

    Args:
        channels: Of the first stage, C; doubled with each further one.
        depths: Blocks of each stage.
        head_channels: Channels of an attention head.
        window: Side of a window, M.
        mlp_ratio: Width of the blocks' MLPs, in channels.
        drop_path: Probability that the last block is left out for an image, while training; it rises to it from 0.
        out_indices: The stages whose maps are returned, from 0, shallow to deep; none is built after the last of them.
        frozen_stages: -1: everything trains; 0: the patch embedding does not; n: it and the first n stages do not.

    Raises:
        ConfigError: Channels that heads do not divide, a stage that is not there, a probability that is none.
    """

    def __init__(
        self,
        *,
        channels: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        head_channels: int = 32,
        window: int = 7,
        mlp_ratio: int = 4,
        drop_path: float = 0.2,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        _check(channels, head_channels, drop_path)
        _check_stages(len(depths), out_indices, frozen_stages)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.out_channels = tuple(channels * 2**stage for stage in out_indices)
        self.strides = tuple(PATCH * 2**stage for stage in out_indices)

        self.patch_embed = PatchEmbedding(channels)
        total = sum(depths)
        rates = (drop_path * block / max(total - 1, 1) for block in range(total))
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(depths[: out_indices[-1] + 1]):
            width = channels * 2**stage
            blocks = [
                SwinBlock(
                    width,
                    width // head_channels,
                    window=window,
                    shift=window // 2 if block % 2 else 0,
                    mlp_ratio=mlp_ratio,
                    drop_path=next(rates),
                )
                for block in range(depth)
            ]
            self.stages.append(SwinStage(blocks, PatchMerging(width) if stage < out_indices[-1] else None))
        for stage, width in zip(out_indices, self.out_channels, strict=True):
            self.add_module(f"norm{stage}", nn.LayerNorm(width))
        self.apply(_init_linear)
        self.train()

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> the maps (B, C_l, H_l, W_l) of ``out_indices``, sides divided by the stride, rounded up."""
        x = self.patch_embed(images)
        maps = []
        for number, stage in enumerate(self.stages):
            x = stage.get_submodule("blocks")(x)
            if number in self.out_indices:
                maps.append(self.get_submodule(f"norm{number}")(x).permute(0, 3, 1, 2).contiguous())
            if number < self.out_indices[-1]:
                x = stage.get_submodule("downsample")(x)
        return maps

    def train(self, mode: bool = True) -> SwinTransformer:
        """As any module, except that frozen stages stay as they are."""
        super().train(mode)
        for module in self._frozen():
            module.eval().requires_grad_(False)
        return self

    def _frozen(self) -> Iterator[nn.Module]:
        if self.frozen_stages >= 0:
            yield from (self.patch_embed, *self.stages[: self.frozen_stages])
            yield from (self.get_submodule(f"norm{each}") for each in self.out_indices if each < self.frozen_stages)


def _relative_positions(window: int) -> Tensor:
    """(M * M, M * M): which row of the bias table the offset from one position to another has."""
    side = torch.arange(window)
    offset = side[:, None] - side + window - 1
    rows, columns = offset[:, None, :, None], offset[None, :, None, :]
    return (rows * (2 * window - 1) + columns).reshape(window**2, window**2)


def _padded(x: Tensor, multiple: int) -> Tensor:
    """(B, H, W, C) with zeros below and on the right, up to multiples."""
    height, width = x.shape[1:3]
    return F.pad(x, (0, 0, 0, -width % multiple, 0, -height % multiple))


def _split(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> windows (B * H / M * W / M, M * M, C), image by image, row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window**2, channels)


def _join(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`_split`."""
    channels = windows.shape[-1]
    x = windows.reshape(-1, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(-1, height, width, channels)


def _init_linear(module: nn.Module) -> None:
    """Truncated normal weights, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check(channels: int, head_channels: int, drop_path: float) -> None:
    if channels % head_channels:
        found = f"{head_channels}, but the first stage has {channels} channels"
        raise ConfigError("head_channels", found, "Give a divisor of the channels.")
    if not 0 <= drop_path < 1:
        raise ConfigError("drop_path", f"{drop_path}", "Give a probability from 0 to less than 1.")


def _check_stages(stages: int, out_indices: Sequence[int], frozen_stages: int) -> None:
    last = stages - 1
    if not out_indices or list(out_indices) != sorted({*out_indices}) or out_indices[0] < 0 or out_indices[-1] > last:
        fix = f"Give stages from 0 to {last}, each once, in rising order."
        raise ConfigError("out_indices", f"{list(out_indices)}", fix)
    if not -1 <= frozen_stages <= stages:
        raise ConfigError("frozen_stages", f"{frozen_stages}", f"Give -1 (none) to {stages} (all).")
