"""A namespace: each of timm's models is an attribute, a subclass of :class:`detcore_timm.backbone.TimmBackbone`."""

from __future__ import annotations

import timm as _timm

from detcore_timm import backbone as _backbone


def __getattr__(name: str) -> type[_backbone.TimmBackbone]:
    if name.startswith("_") or not _timm.is_model(name):
        raise AttributeError(f"timm {_timm.__version__} has no model {name!r}")
    members = {"model_name": name, "__module__": __name__, "__doc__": f"timm's {name}."}
    model = globals()[name] = type(name, (_backbone.TimmBackbone,), members)
    return model


def __dir__() -> list[str]:
    return _timm.list_models()
