"""Every name of MMDetection's that this package translates: what is core's, torch's or torchvision's here."""

from __future__ import annotations

from detcore_mmdet import data, hooks, layers, schedules, transforms

TRANSLATIONS = {
    name: translate
    for module in (layers, transforms, schedules, hooks, data)
    for name, translate in module.TRANSLATIONS.items()
}
