"""CentripetalNet's head by its name in MMDetection, where it is a corner head."""

from __future__ import annotations

from detcore.foreign import Foreign, Part, Rule
from detcore_cornernet.mmdet import CORNERS, corners

GUIDING = {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 0.05}
"""The losses of a head that does not say, there:"""
CENTRIPETAL = {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1}

SHIFTS: tuple[Rule, ...] = (
    (r"\badaption\.points\b", "dcn_offset.conv"),
    (r"\badaption\b", "feat_adaption"),
    (r"\b(guiding|centripetal)\b", r"\1_shift"),
)
"""Names of tensors, before those of all corner heads."""


def centripetal_head(head: Foreign) -> Part:
    """CentripetalHead. It makes tags as CornerHead does, unless told not to, and leaves them out of its losses."""
    if head.get("corner_emb_channels", 1):
        head.note("corner_emb_channels", "tags of corners, which nothing reads there, are not made; unsaid, it is 1")
    head.get("loss_embedding")
    head.only(centripetal_shift_channels=2, guiding_shift_channels=2, feat_adaption_conv_kernel=3)
    return head.into(
        "CentripetalHead",
        *SHIFTS,
        *CORNERS,
        absent=(r"(tl|br)_emb\..*",),
        **corners(head),
        loss_guiding=head.part("loss_guiding_shift", GUIDING),
        loss_centripetal=head.part("loss_centripetal_shift", CENTRIPETAL),
    )


TRANSLATIONS = {"CentripetalHead": centripetal_head}
