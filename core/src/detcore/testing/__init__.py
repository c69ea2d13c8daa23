"""The conformance kit: one line in a plugin's tests holds a component to its interface.

    check_backbone(MyBackbone, depth=18)
    check_neck(MyNeck, out_channels=32)              # channels and strides are filled in, as the build fills them
    check_dense_head(my_head)                        # a class, or a function whose parameters have markers
    check_roi_head(my_roi_head)
    check_box_head(MyBoxHead)
    check_loss(MyLoss(), reads="boxes")
    check_dataset(MyDataset(root=folder))
    check_transform(MyTransform(size=32))
    check_evaluator(MyEvaluator, MyDataset(root=folder))
    check_callback(MyCallback, every=2)

Each returns nothing, or raises :class:`ConformanceError`. All runs on the CPU, and once more on a GPU where there is
one, on small inputs from fixed seeds; the caller's random generators stay as they were. A check makes its component
several times: let it be a small one. ``docs/conformance.md`` says what each of them holds a component to.

:mod:`detcore.testing.pytest_plugin` gives tests small things to work with. Nothing here is imported before it is asked
for, so that a test run that does not need it does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detcore.testing.box_head import REGIONS, check_box_head
    from detcore.testing.callback import check_callback
    from detcore.testing.compare import ConformanceError
    from detcore.testing.dataset import check_dataset
    from detcore.testing.dense_head import HEAD_MAPS, check_dense_head
    from detcore.testing.evaluator import check_evaluator
    from detcore.testing.loss import Reads, check_loss
    from detcore.testing.pyramid import MAPS, SIZES, check_backbone, check_neck
    from detcore.testing.roi_head import ROI_MAPS, check_roi_head
    from detcore.testing.transform import check_transform

__all__ = [
    "HEAD_MAPS",
    "MAPS",
    "REGIONS",
    "ROI_MAPS",
    "SIZES",
    "ConformanceError",
    "Reads",
    "check_backbone",
    "check_box_head",
    "check_callback",
    "check_dataset",
    "check_dense_head",
    "check_evaluator",
    "check_loss",
    "check_neck",
    "check_roi_head",
    "check_transform",
]

_HOMES = {
    **dict.fromkeys(("MAPS", "SIZES", "check_backbone", "check_neck"), "pyramid"),
    **dict.fromkeys(("HEAD_MAPS", "check_dense_head"), "dense_head"),
    **dict.fromkeys(("ROI_MAPS", "check_roi_head"), "roi_head"),
    **dict.fromkeys(("REGIONS", "check_box_head"), "box_head"),
    **dict.fromkeys(("Reads", "check_loss"), "loss"),
    "ConformanceError": "compare",
    "check_callback": "callback",
    "check_dataset": "dataset",
    "check_evaluator": "evaluator",
    "check_transform": "transform",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'detcore.testing' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"detcore.testing.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
