"""SwinTransformer: attention position by position, torchvision's maps, what it declares, drops and freezes."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from detcore.errors import ConfigError
from detcore_swin.swin import PatchMerging, ShiftedWindows, SwinTransformer
from torch import Tensor
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

SMALL: dict[str, Any] = {"channels": 8, "head_channels": 4, "depths": (2, 2), "window": 3, "out_indices": (0, 1)}
MILLIONS = {(96, (2, 2, 6, 2)): 27.5, (96, (2, 2, 18, 2)): 48.8, (128, (2, 2, 18, 2)): 86.7}
"""Parameters of Swin-T, -S and -B (table 1 of the paper, without the classifiers of 0.8 and 1.0)."""


def attention_by_position(layer: ShiftedWindows, x: Tensor) -> Tensor:
    """One image (H, W, C): every position attends to those of its shifted window that the roll has not brought there."""
    heads, window, shift, inner = layer.w_msa.heads, layer.window, layer.shift, layer.w_msa
    height, width, channels = x.shape
    rows, columns = -(-height // window) * window, -(-width // window) * window
    padded = x.new_zeros(rows, columns, channels)
    padded[:height, :width] = x
    query, key, value = (each.reshape(rows, columns, heads, -1) for each in inner.qkv(padded).chunk(3, dim=-1))
    table = inner.relative_position_bias_table.reshape(2 * window - 1, 2 * window - 1, heads)
    grid = list(itertools.product(range(rows), range(columns)))
    at = {(i, j): ((i - shift) % rows, (j - shift) % columns) for i, j in grid}
    out = torch.zeros_like(padded)
    for i, j in grid:
        i_rolled, j_rolled = at[i, j]
        near = [
            (k, m)
            for k, m in grid
            if at[k, m][0] // window == i_rolled // window and at[k, m][1] // window == j_rolled // window
            and (at[k, m][0] - i_rolled, at[k, m][1] - j_rolled) == (k - i, m - j)
        ]  # fmt: skip
        for head in range(heads):
            logits = torch.stack([
                query[i, j, head] @ key[k, m, head] / (channels / heads) ** 0.5
                + table[i - k + window - 1, j - m + window - 1, head]
                for k, m in near
            ])  # fmt: skip
            mixed = sum(p * value[k, m, head] for p, (k, m) in zip(logits.softmax(0), near, strict=True))
            out[i, j, head * channels // heads : (head + 1) * channels // heads] = mixed
    return inner.proj(out)[:height, :width]


@pytest.mark.parametrize(("size", "shift"), [((6, 9), 0), ((6, 9), 1), ((5, 7), 0), ((5, 7), 1), ((2, 4), 1)])
def test_each_position_attends_to_its_window(size: tuple[int, int], shift: int) -> None:
    torch.manual_seed(0)
    layer = ShiftedWindows(4, heads=2, window=3, shift=shift).double()
    torch.nn.init.normal_(layer.w_msa.relative_position_bias_table)
    x = torch.randn(2, *size, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([attention_by_position(layer, each) for each in x])
        torch.testing.assert_close(layer(x), expected)


def ours_of(name: str) -> str:
    """torchvision's name of a tensor -> ours."""
    rules = [
        (r"^features\.0\.0", "patch_embed.projection"),
        (r"^features\.0\.2", "patch_embed.norm"),
        (r"^features\.2\.", "stages.0.downsample."),
        (r"^features\.([13])\.", lambda match: f"stages.{int(match[1]) // 2}.blocks."),
        (r"\.attn\.", ".attn.w_msa."),
        (r"\.mlp\.0\.", ".ffn.layers.0.0."),
        (r"\.mlp\.3\.", ".ffn.layers.1."),
        (r"^norm\.", "norm1."),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def test_torchvisions_weights_give_torchvisions_maps() -> None:
    torch.manual_seed(0)
    reference = TorchvisionSwin([4, 4], 8, [2, 2], [2, 4], [3, 3], stochastic_depth_prob=0.0).eval()
    ours = SwinTransformer(**SMALL).eval()
    state = {ours_of(k): v for k, v in reference.state_dict().items() if not k.startswith("head.")}
    order = torch.arange(32).reshape(2, 2, 8).permute(2, 1, 0).flatten()  # theirs: column, row, channel of four blocks
    for name in ("norm.weight", "norm.bias", "reduction.weight"):
        state[f"stages.0.downsample.{name}"] = state[f"stages.0.downsample.{name}"][..., order]
    for name in [name for name in state if name.endswith("relative_position_index")]:
        state[name] = state[name].reshape(9, 9)
        assert torch.equal(state[name], ours.state_dict()[name])
    result = ours.load_state_dict(state, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (["norm0.weight", "norm0.bias"], [])
    images = torch.rand(2, 3, 64, 72)
    with torch.no_grad():
        expected = reference.norm(reference.features(images)).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours(images)[1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "depths"), MILLIONS)
def test_the_papers_models_have_the_papers_sizes(channels: int, depths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        parameters = SwinTransformer(channels=channels, depths=depths, drop_path=0.0).parameters()
    assert sum(each.numel() for each in parameters) / 1e6 == pytest.approx(MILLIONS[channels, depths], abs=0.1)


def test_neighbours_stand_side_by_side_in_each_channel() -> None:
    merging = PatchMerging(2)
    seen: list[Tensor] = []
    merging.norm.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    x = torch.arange(3 * 4 * 2.0).reshape(1, 3, 4, 2)
    assert merging(x).shape == (1, 2, 2, 4)
    assert seen[0][0, 0, 1].tolist() == [4, 6, 12, 14, 5, 7, 13, 15]
    assert seen[0][0, 1, 0].tolist() == [16, 18, 0, 0, 17, 19, 0, 0]


def test_blocks_are_dropped_ever_more_and_only_while_training() -> None:
    backbone = SwinTransformer(**SMALL, drop_path=0.3)
    rates = [block.drop_path.p for stage in backbone.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(backbone(images)[1], backbone(images)[1])
        backbone.eval()
        assert torch.equal(backbone(images)[1], backbone(images)[1])


@pytest.mark.parametrize(
    ("frozen_stages", "frozen"),
    [(-1, set()), (0, {"patch_embed"}), (1, {"patch_embed", "stages.0", "norm0"})],
)
def test_frozen_stages_do_not_train(frozen_stages: int, frozen: set[str]) -> None:
    backbone = SwinTransformer(**SMALL, frozen_stages=frozen_stages).eval().train()
    found = {
        re.sub(r"(?<!stages)\..*", "", name) for name, each in backbone.named_parameters() if not each.requires_grad
    }
    assert found == frozen
    assert backbone.patch_embed.training == (frozen_stages < 0)


def test_stages_after_the_last_that_is_returned_are_not_built() -> None:
    backbone = SwinTransformer(channels=8, head_channels=4, out_indices=(1,))
    assert (len(backbone.stages), backbone.out_channels, backbone.strides) == (2, (16,), (8,))
    assert backbone.stages[1].downsample is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_channels": 36},
         "head_channels: 36, but the first stage has 96 channels. Give a divisor of the channels."),
        ({"drop_path": 1.0}, "drop_path: 1.0. Give a probability from 0 to less than 1."),
        ({"out_indices": (3, 4)}, "out_indices: [3, 4]. Give stages from 0 to 3, each once, in rising order."),
        ({"frozen_stages": 5}, "frozen_stages: 5. Give -1 (none) to 4 (all)."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SwinTransformer(**options)
    assert str(caught.value) == message
