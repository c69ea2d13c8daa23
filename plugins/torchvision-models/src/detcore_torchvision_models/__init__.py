"""torchvision's models as backbones and detectors."""
