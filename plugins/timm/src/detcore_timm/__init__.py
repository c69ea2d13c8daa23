"""timm's models as backbones."""
