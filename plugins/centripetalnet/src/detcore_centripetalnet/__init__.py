"""CentripetalNet (Dong et al. 2020)."""
