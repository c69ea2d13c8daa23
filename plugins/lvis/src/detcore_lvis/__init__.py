"""LVIS: see ``detcore_lvis.dataset``."""
