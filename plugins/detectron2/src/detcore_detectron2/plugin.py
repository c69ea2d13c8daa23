"""What the plugin offers."""

from __future__ import annotations

from collections.abc import Mapping

from detcore import hookimpl


@hookimpl
def detcore_weight_sources() -> Mapping[str, str]:
    """``detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x``, and ``detectron2://my/model_final.pkl``."""
    return {"detectron2": "detcore_detectron2.weights:load"}
