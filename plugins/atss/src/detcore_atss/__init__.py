"""ATSS (Zhang et al. 2020)."""
