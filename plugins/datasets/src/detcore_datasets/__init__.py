"""Datasets made of datasets, and orders of their samples."""
