"""A namespace: each of torchvision's detectors is an attribute, a subclass of TorchvisionDetector."""

from __future__ import annotations

from detcore_torchvision_models import detector as _detector


def __getattr__(name: str) -> type[_detector.TorchvisionDetector]:
    if name not in _detector.NAMES:
        raise AttributeError(f"torchvision has no detector {name!r}")
    members = {"model_name": name, "__module__": __name__, "__doc__": f"torchvision's {name}."}
    model = globals()[name] = type(name, (_detector.TorchvisionDetector,), members)
    return model


def __dir__() -> list[str]:
    return sorted(_detector.NAMES)
