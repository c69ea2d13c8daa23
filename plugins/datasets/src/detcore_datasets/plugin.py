"""What this plugin adds; imports no torch."""

from __future__ import annotations

from detcore import Component, hookimpl

COMPONENTS = {
    ("dataset", "wrappers"): {
        "RepeatDataset": "A dataset several times",
        "SubsetDataset": "Some images of a dataset",
        "ClassBalancedDataset": "Images of rare classes several times (LVIS)",
        "CachedDataset": "A dataset that remembers the samples it read last",
    },
    ("dataset", "proposals"): {"ProposalsDataset": "A dataset with regions from a file, for GivenProposals"},
    ("dataset", "concat"): {"ConcatDataset": "Several datasets of the same classes, by name"},
    ("evaluator", "concat"): {"PerDatasetEvaluator": "The metrics of each dataset of a ConcatDataset"},
    ("order", "orders"): {
        "AspectRatioOrder": "Wide images and tall ones in batches of their own",
        "ClassAwareOrder": "Each class as often as any other",
        "WeightedOrder": "Images by the weights of their classes",
    },
}


@hookimpl
def detcore_components() -> list[Component]:
    """Called once at discovery."""
    return [
        Component(kind, name, f"detcore_datasets.{module}:{name}", text)
        for (kind, module), names in COMPONENTS.items()
        for name, text in names.items()
    ]


@hookimpl
def detcore_importers() -> dict[str, str]:
    """MMDetection's names for them."""
    return {"mmdet": "detcore_datasets.mmdet:TRANSLATIONS"}
