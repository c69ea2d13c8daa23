"""Test-time augmentation: a detector that looks at every image in several ways."""
