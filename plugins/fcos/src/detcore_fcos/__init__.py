"""FCOS (Tian et al. 2019)."""
