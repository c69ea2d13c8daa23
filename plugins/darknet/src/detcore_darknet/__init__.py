"""Darknet-53 (Redmon and Farhadi 2018)."""
