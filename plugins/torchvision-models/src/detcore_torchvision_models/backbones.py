"""A namespace: each of torchvision's backbones is an attribute, a subclass of TorchvisionBackbone."""

from __future__ import annotations

from detcore_torchvision_models import backbone as _backbone


def __getattr__(name: str) -> type[_backbone.TorchvisionBackbone]:
    if name not in _backbone.NAMES:
        raise AttributeError(f"torchvision has no backbone {name!r}")
    members = {"model_name": name, "__module__": __name__, "__doc__": f"torchvision's {name}."}
    model = globals()[name] = type(name, (_backbone.TorchvisionBackbone,), members)
    return model


def __dir__() -> list[str]:
    return sorted(_backbone.NAMES)
