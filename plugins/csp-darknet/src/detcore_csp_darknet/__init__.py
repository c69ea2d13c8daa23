"""CSPDarknet (Wang et al. 2020, Ge et al. 2021)."""
