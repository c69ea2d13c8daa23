"""MobileNet backbones."""
