"""One module for each format; what they share is ``detcore_records``."""
