"""The table of ``docs/mmdet.md`` that lists every name of MMDetection's with a counterpart, as the plugins say it.

    python tools/mmdet_page.py            # exit code 1 where the page says something else than what is
    python tools/mmdet_page.py --write

What a name becomes is tried: each translation is given a table of its type with the keys in ``EXAMPLES``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from detcore.foreign import Foreign, Log, Part, Translate
from detcore.plugins import discover
from detcore_mmdet.model import translations

PAGE = Path(__file__).parents[1] / "docs" / "mmdet.md"
BEGIN, END = "<!-- names: python tools/mmdet_page.py --write -->", "<!-- end of names -->"
HEAD = "| plugin | names there → here |\n|---|---|\n"
COCO = {"type": "CocoDataset"}
ANCHORS = {
    "type": "YOLOAnchorGenerator",
    "strides": [32, 16],
    "base_sizes": [[[116, 90], [156, 198]], [[30, 61], [62, 45]]],
}
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "ClassBalancedDataset": {"dataset": COCO, "oversample_thr": 0.1},
    "ConcatDataset": {"datasets": [COCO, COCO]},
    "FixScaleResize": {"scale": [1333, 800]},
    "HRNet": {
        "extra": {
            f"stage{number}": {
                "num_modules": 1,
                "num_branches": number,
                "block": "BASIC",
                "num_blocks": [4] * number,
                "num_channels": [18 * 2**each for each in range(number)],
            }
            for number in range(1, 5)
        }
    },
    "LinearLR": {"end": 500, "by_epoch": False},
    "LoadAnnotations": {"with_mask": True},
    "MultiImageMixDataset": {"dataset": COCO},
    "MultiStepLR": {"milestones": [8, 11]},
    "Normalize": {"mean": [0, 0, 0], "std": [1, 1, 1]},
    "QuadraticWarmupLR": {"end": 5},
    "RandomCenterCropPad": {"crop_size": [511, 511], "mean": [0, 0, 0], "to_rgb": True},
    "RandomFlip": {"prob": 0.5},
    "RandomResize": {"scale": [1333, 800], "ratio_range": [0.5, 1.5]},
    "RepeatDataset": {"dataset": COCO, "times": 2},
    "Resize": {"scale": [1333, 800], "keep_ratio": True},
    "StepLR": {"step_size": 4, "end": 12},
    "YOLOAnchorGenerator": ANCHORS,
    "YOLOV3Head": {"anchor_generator": ANCHORS, "in_channels": [512, 256], "out_channels": [1024, 512]},
    "YOLOV3Neck": {"out_channels": [512, 256], "in_channels": [1024, 512]},
}
"""Keys without which a table of this type is none."""
SPOKEN: Mapping[str, str] = {
    "MultiImageMixDataset": "the data set within it",
    "ProposalBroadcaster": "the transforms within it",
    "BatchFixedSizePad": "a remark: `preprocess.size`",
}
"""What is no component, in words."""


@cache
def known() -> Mapping[str, Translate]:
    """Every name that an installed plugin translates; roles that have no name there are left out."""
    return {name: each for name, each in everything().items() if " " not in name}


@cache
def everything() -> dict[str, Translate]:
    """Every name that an installed plugin translates."""
    return translations(discover())


def ours(name: str) -> str:
    """What a name becomes."""
    if name in SPOKEN:
        return SPOKEN[name]
    table = Foreign({"type": name, **EXAMPLES.get(name, {})}, name, Log(everything()))
    found = everything()[name](table)
    return ", ".join(dict.fromkeys(_types(found.plain if isinstance(found, Part) else found))) or "nothing is needed"


def _types(table: Any) -> Iterator[str]:
    """The types of a table, or of those that it holds; else the section that it is about."""
    if table is None:
        return
    if "type" in table:
        network = table.get("network")
        inner = f" with `{network['type']}`" if isinstance(network, Mapping) else ""
        yield f"`{table['type']}`{inner}"
        return
    for key, value in table.items():
        if key in ("callbacks", "schedules", "transforms"):
            for each in value.values() if isinstance(value, Mapping) else value:
                yield from _types(each)
        elif key in ("preprocess", "train") and value is not None:
            yield f"`[{key}]`"
        elif value:
            yield f"`{key}` of the data set"


def table() -> str:
    """Rows of plugins, with their names there and here."""
    plugins: dict[str, dict[str, list[str]]] = {}
    for name, translate in known().items():
        plugin = translate.__module__.partition(".")[0].replace("_", "-")
        plugins.setdefault(plugin, {}).setdefault(ours(name), []).append(name)
    rows = []
    for plugin, found in sorted(plugins.items()):
        pairs = [_pair(names, here) for here, names in found.items()]
        rows.append(f"| `{plugin}` | {'; '.join(pairs)} |\n")
    return HEAD + "".join(rows)


def _pair(names: list[str], here: str) -> str:
    """Names there and what they are here; one that stays is named once."""
    there = ", ".join(f"`{name}`" for name in names)
    return there if there == here else f"{there} → {here}"


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit("docs/mmdet.md: run python tools/mmdet_page.py --write")
