"""Transforms of albumentations, as a transform of a sample with all it has."""
