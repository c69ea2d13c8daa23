"""The losses by their names in MMDetection."""

from __future__ import annotations

from detcore.foreign import Foreign, Part, Translate

COMMON = {"reduction": "reduction", "loss_weight": "loss_weight"}
BOXES = ("GIoULoss", "DIoULoss", "CIoULoss")


def _same(name: str, **keys: str) -> Translate:
    """A loss of the same name with these keys, ours = theirs, beside the common ones."""

    def loss(table: Foreign) -> Part:
        return table.into(name, **table.keep(**keys, **COMMON))

    return loss


def focal(table: Foreign) -> Part:
    """FocalLoss; only that of sigmoids exists there, too."""
    table.only(use_sigmoid=True, activated=False)
    return table.into("FocalLoss", **table.keep(gamma="gamma", alpha="alpha", **COMMON))


def cross_entropy(table: Foreign) -> Part:
    """CrossEntropyLoss; that of masks is a part of the mask branch."""
    keys = table.keep(class_weight="class_weight", ignore_index="ignore_index", avg_non_ignore="avg_non_ignore")
    sigmoid = table.get("use_sigmoid", False) or table.get("use_mask", False)
    return table.into("CrossEntropyLoss", use_sigmoid=sigmoid or None, **keys, **table.keep(**COMMON))


def iou(table: Foreign) -> Part:
    """IoULoss: its logarithm where nothing else is said."""
    mode = "linear" if table.get("linear", False) else table.get("mode")
    return table.into("IoULoss", mode=mode, **table.keep(eps="eps", **COMMON))


def ghm_c(table: Foreign) -> Part:
    """GHMC; its edges are constants, which are no part of checkpoints here."""
    table.only(use_sigmoid=True, reduction="mean")
    keys = table.keep(bins="bins", momentum="momentum", loss_weight="loss_weight")
    return table.into("GHMC", (r"^density\.", ""), absent=("edges",), **keys)


def ghm_r(table: Foreign) -> Part:
    """GHMR; see :func:`ghm_c`."""
    table.only(reduction="mean")
    keys = table.keep(mu="mu", bins="bins", momentum="momentum", loss_weight="loss_weight")
    return table.into("GHMR", (r"^density\.", ""), absent=("edges",), **keys)


TRANSLATIONS = {
    "FocalLoss": focal,
    "CrossEntropyLoss": cross_entropy,
    "IoULoss": iou,
    **{name: _same(name, eps="eps") for name in BOXES},
    "L1Loss": _same("L1Loss"),
    "SmoothL1Loss": _same("SmoothL1Loss", beta="beta"),
    "BalancedL1Loss": _same("BalancedL1Loss", alpha="alpha", gamma="gamma", beta="beta"),
    "MSELoss": _same("MSELoss"),
    "GHMC": ghm_c,
    "GHMR": ghm_r,
}
