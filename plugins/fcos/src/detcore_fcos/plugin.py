"""The components of this plugin."""

from __future__ import annotations

from detcore import Component, hookimpl


@hookimpl
def detcore_components() -> list[Component]:
    """The parts of FCOS that are its own; points, decoder and losses come from other plugins."""
    return [
        Component("head_network", "FCOSTowers", "detcore_fcos.fcos:FCOSTowers", "two towers; class, box, centerness"),
        Component(
            "assigner", "FCOSAssigner", "detcore_fcos.fcos:FCOSAssigner", "points inside boxes, by range of size"
        ),
        Component(
            "dense_loss", "FCOSLoss", "detcore_fcos.fcos:FCOSLoss", "class, box weighted by centerness, centerness"
        ),
    ]
