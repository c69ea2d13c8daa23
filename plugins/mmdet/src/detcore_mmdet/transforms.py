"""Transforms that are torchvision's or core's here, and what is no transform here, by their names in MMDetection 3.x.

A translation gives a transform, nothing where there is nothing to do, or a table without ``type`` of what else is said:
``transforms`` (several), ``preprocess`` (keys of it, and ``square``), ``segmentation``, ``callbacks``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from detcore.foreign import Foreign

FLIPS = {"horizontal": "RandomHorizontalFlip", "vertical": "RandomVerticalFlip"}
CLEANERS = ("Sanitize", "FilterBoxes")
"""Transforms that drop what has become too small."""


@attrs.define
class Pipeline:
    """What a list of transforms there became.

    Attributes:
        transforms: Ours.
        preprocess: What it says of normalising and padding; with ``square`` where images are padded to squares.
        segmentation: How masks are read; None where they are not.
        proposals: Whether regions are read.
    """

    transforms: list[dict[str, Any]] = attrs.field(factory=list)
    preprocess: dict[str, Any] = attrs.field(factory=dict)
    segmentation: str | None = None
    proposals: bool = False

    def take(self, found: Any) -> None:
        """Add what a transform became."""
        if found is None:
            return
        table = found if isinstance(found, Mapping) else found.plain
        if "type" in table:
            self.transforms.append(dict(table))
            return
        self.transforms += table.get("transforms", [])
        self.segmentation = table.get("segmentation", self.segmentation)
        self.proposals |= table.get("proposals", False)
        padding = table.get("preprocess", {})
        if "pad_value" in padding:  # in 2.x normalising is a transform, too, and stands before
            padding = {**padding, "pad": "after" if "mean" in self.preprocess else "before"}
        self.preprocess |= padding


def chain(tables: Sequence[Foreign], others: Sequence[Mapping[str, Any]] = ()) -> Pipeline:
    """A list of transforms.

    Args:
        tables: Theirs.
        others: What images have gone through before the list, and so what others go through that are mixed in.
    """
    found = Pipeline(transforms=[dict(each) for each in others])
    for table in tables:
        given: dict[str, Any] = {"others": [*others], "before": [*found.transforms]}
        found.take(table.translated(**given))
        table.read |= given.keys()
    if found.segmentation and any(each["type"] == "CopyPaste" for each in found.transforms):
        found.segmentation = "masks"
    return found


def closed(transforms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Transforms of training, with one at their end that drops what has become too small, if there is none."""
    names = {each["type"] for each in transforms}
    return [*map(dict, transforms), *([] if names & {*CLEANERS} else [{"type": "Sanitize"}])]


def load_annotations(table: Foreign) -> dict[str, Any] | None:
    """LoadAnnotations: what is read of each object."""
    for key in ("with_label", "backend_args", "file_client_args", "imdecode_backend", "box_type", "denorm_bbox"):
        table.get(key)
    table.only(with_bbox=True, with_seg=False, with_keypoints=False)
    if not table.get("with_mask", False):
        table.get("poly2mask")
        return None
    if table.get("poly2mask", True):
        table.note("with_mask", "outlines are drawn at the size that a loss needs, not at that of the image")
    return {"segmentation": "polygons"}


def load_image(table: Foreign) -> None:
    """LoadImageFromFile: as every image is read here."""
    for key in ("to_float32", "backend_args", "file_client_args", "imdecode_backend", "ignore_empty"):
        table.get(key)
    if table.get("color_type", "color") not in ("color", "color_ignore_orientation"):
        table.lose("color_type", "images are read in colour")


def load_proposals(table: Foreign) -> dict[str, Any]:
    """LoadProposals."""
    table.get("num_max_proposals")
    return {"proposals": True}


def flip(table: Foreign) -> Any:
    """RandomFlip: one direction, or one of several."""
    for key in ("swap_seg_labels", "flip_label_map"):
        table.get(key)
    chance, ways = table.get("prob"), table.get("direction", "horizontal")
    ways = [ways] if isinstance(ways, str) else list(ways)
    if chance is None or chance == 0:
        return None
    if unknown := [way for way in ways if way not in FLIPS]:
        table.lose("direction", f"no transform flips {', '.join(unknown)}")
        return None
    shares = list(chance) if isinstance(chance, list) else [chance / len(ways)] * len(ways)
    if len(shares) != len(ways):
        table.lose("prob", f"{len(shares)} numbers for {len(ways)} directions")
        return None
    if len(ways) == 1:
        return {"type": FLIPS[ways[0]], **({} if shares[0] == 0.5 else {"p": float(shares[0])})}
    choices = [{"type": FLIPS[way], "p": 1.0} for way in ways]
    rest = round(1.0 - sum(shares), 12)
    if rest > 0:
        choices, shares = [*choices, {"type": "Identity"}], [*shares, rest]
    return {"type": "RandomChoice", "transforms": choices, "p": [float(share) for share in shares]}


def choice(table: Foreign) -> Any:
    """RandomChoice: one of several lists of transforms."""
    lists = table.get("transforms", [])
    table.values |= {f"transforms.{number}": each for number, each in enumerate(lists)}
    options = [chain(table.tables(f"transforms.{number}")).transforms for number in range(len(lists))]
    chances = table.get("prob")
    parts = [each[0] if len(each) == 1 else {"type": "Compose", "transforms": each} for each in options if each]
    if len(parts) < len(lists):
        table.lose("transforms", "one of the lists has no counterpart")
        return None
    return {"type": "RandomChoice", "transforms": parts, **({"p": chances} if chances else {})}


def both(table: Foreign) -> Any:
    """ProposalBroadcaster: what boxes go through, regions go through here, too."""
    found = chain(table.tables("transforms"))
    return {"transforms": found.transforms, "preprocess": found.preprocess}


def expand(table: Foreign) -> Any:
    """Expand: the image somewhere on a larger canvas."""
    table.only(seg_ignore_label=None)
    mean, rgb = table.get("mean", [0, 0, 0]), table.get("to_rgb", True)
    fill = [float(each) for each in (mean if rgb else mean[::-1])]
    sides = [float(each) for each in table.get("ratio_range", [1, 4])]
    chance = table.get("prob", 0.5)
    return {
        "type": "RandomZoomOut",
        **({"fill": fill} if any(fill) else {}),
        **({} if sides == [1.0, 4.0] else {"side_range": sides}),
        **({} if chance == 0.5 else {"p": float(chance)}),
    }


def normalize(table: Foreign) -> dict[str, Any]:
    """Normalize: what ``[preprocess]`` does here."""
    color = "rgb" if table.get("to_rgb", True) else "bgr"
    numbers = {name: [float(each) for each in table.get(name)] for name in ("mean", "std")}
    return {"preprocess": {"color": color, **numbers}}


def pad(table: Foreign) -> dict[str, Any]:
    """Pad: what ``[preprocess]`` does here."""
    table.only(padding_mode="constant")
    value = table.get("pad_val", 0)
    value = value.get("img", 0) if isinstance(value, Mapping) else value
    values = {float(each) for each in (value if isinstance(value, list) else [value])}
    if len(values) > 1:
        table.lose("pad_val", "padding is grey")
    size, divisor = table.get("size"), table.get("size_divisor")
    found: dict[str, Any] = {"pad_value": values.pop()}
    if table.get("pad_to_square", False):
        found["square"] = True
    if isinstance(size, list):
        found["size"] = [size[1], size[0]]
    if divisor:
        found["divisor"] = divisor
    return {"preprocess": found}


def nothing(table: Foreign) -> None:
    """What every sample goes through here, or what there is no need for."""
    table.read |= {*table.values}


TRANSLATIONS = {
    "LoadAnnotations": load_annotations,
    "LoadImageFromFile": load_image,
    "LoadProposals": load_proposals,
    "RandomFlip": flip,
    "RandomChoice": choice,
    "Expand": expand,
    "ProposalBroadcaster": both,
    "Normalize": normalize,
    "Pad": pad,
    **dict.fromkeys(("PackDetInputs", "DefaultFormatBundle", "Collect", "ImageToTensor", "ToTensor"), nothing),
}
