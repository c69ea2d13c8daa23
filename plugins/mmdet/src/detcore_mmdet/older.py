"""Names of tensors that versions of MMDetection before the last one wrote, and tensors that nobody needs.

A rule counts only where the tensor's name is unknown to the detector and the new name is known, so that it cannot turn
a name that fits into one that does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from detcore.errors import CheckpointError
from detcore.foreign import Rule
from torch import Tensor

RULES: tuple[Rule, ...] = (
    (r"^module\.", ""),  # of a model in MMDistributedDataParallel
    (r"\b_orig_mod\.", ""),  # of a compiled one
    (r"_offset\.(weight|bias)$", r".conv_offset.\1"),  # of deformable convolutions in 1.x and their copies in 2.x
    (r"\.fcos_(cls|reg)\.", r".conv_\1."),  # of FCOS before 2.0
    (r"\.(?:fcos_)?centerness\.", ".conv_centerness."),
)
"""Older names, and what replaces them, one after the other."""

CONSTANTS = r"data_preprocessor\.(mean|std)"
"""Tensors that a config says, too."""

FIRST = 2
"""The version from which on tensors mean what they mean now: before, class 0 is the background."""


def current(name: str, known: Collection[str]) -> str | None:
    """The name that the tensor has today; None where no rule leads to one that is known."""
    for pattern, replacement in RULES:
        if name in known:
            break
        name = re.sub(pattern, replacement, name)
    return name if name in known else None


def unaveraged(names: Iterable[str]) -> set[str]:
    """Copies that the averaging of 2.x keeps beside the averaged weights: ``ema_backbone_conv1_weight``.

    What is called ``backbone.conv1.weight`` is the average in a file: the two are swapped before one is written.
    """
    found = {*names}
    bare = {name.removeprefix("module.") for name in found}
    copies = {f"ema_{name.replace('.', '_')}" for name in bare}
    return {name for name in found if name.removeprefix("module.") in copies}


def require_current(version: str | None, state: Mapping[str, Tensor], where: str) -> None:
    """Refuse tensors whose channels have another order than now, whatever they are called.

    Args:
        version: Of MMDetection; None where the file does not say.
        state: Theirs.
        where: The file.

    Raises:
        CheckpointError: They were written by MMDetection 1.x, or hold an RPN with two classes of before 2.5.
    """
    found = re.match(r"(\d+)\.(\d+)", version or "")
    if found is None:
        return
    at = int(found[1]), int(found[2])
    fix = "Upgrade it with MMDetection's tools/model_converters/upgrade_model_version.py."
    if at[0] < FIRST:
        raise CheckpointError(where, f"is of MMDetection {version}, where class 0 is the background", fix)
    scores, boxes = (state.get(f"rpn_head.rpn_{each}.weight") for each in ("cls", "reg"))
    if at < (2, 5) and scores is not None and boxes is not None and 2 * len(scores) == len(boxes):
        raise CheckpointError(where, f"is of MMDetection {version}, whose RPN has the background first", fix)
